import io
import logging
import os
import subprocess
import sys
import threading
from unittest import TestCase, mock

from relay.log_writer import LogWriter
from tests.support.processes import ROOT

TO_A_FULL_PIPE = """
import logging, os, sys
from relay.log_writer import LogWriter
writer = LogWriter(most_waiting=10_000, last_wait=0.05)
logging.basicConfig(handlers=[writer])
for number in range(3000):
    logging.warning("line %s %s", number, "x" * 100)
print(writer.dropped, flush=True)
"""


def record(text: str) -> logging.LogRecord:
    return logging.LogRecord("test", logging.WARNING, __file__, 0, text, None, None)


class LogWriterTests(TestCase):
    def setUp(self) -> None:
        reader, writer = os.pipe()
        self.reader = self.enterContext(open(reader, "rb"))
        self.stream = self.enterContext(open(writer, "w"))

    def test_lines_come_in_order(self) -> None:
        handler = LogWriter(self.stream)
        for number in range(100):
            handler.handle(record(f"line {number}"))
        handler.flush()
        self.assertEqual([self.reader.readline().decode() for _ in range(100)], [f"line {n}\n" for n in range(100)])

    def test_where_no_thread_can_be_had_lines_wait_for_one(self) -> None:
        handler = LogWriter(self.stream)
        with mock.patch.object(threading.Thread, "start", side_effect=RuntimeError("can't start new thread")):
            handler.handle(record("first"))
        handler.handle(record("second"))
        handler.flush()
        self.assertEqual([self.reader.readline(), self.reader.readline()], [b"first\n", b"second\n"])

    def test_a_pipe_that_is_not_read_stops_nobody_and_what_is_dropped_is_told_later(self) -> None:
        handler = LogWriter(self.stream, most_waiting=50_000, last_wait=0)
        sent = 0
        while not handler.dropped:  # a pipe holds 64 KiB, the queue the rest
            handler.handle(record(f"line {sent}"))
            sent += 1
        handler.handle(record("one more"))
        lines: list[str] = []
        while not lines or "dropped" not in lines[-1]:
            lines.append(self.reader.readline().decode().rstrip("\n"))
        self.assertEqual(lines[:-1], [f"line {number}" for number in range(sent - 1)])
        self.assertEqual(lines[-1], "2 log lines were dropped: what reads this log was too slow")
        handler.handle(record("after"))
        self.assertEqual(self.reader.readline(), b"after\n")

    def test_a_line_longer_than_the_queue_has_room(self) -> None:
        handler = LogWriter(self.stream, most_waiting=10)
        handler.handle(record("x" * 1000))
        self.assertEqual(self.reader.readline(), b"x" * 1000 + b"\n")
        self.assertEqual(handler.dropped, 0)

    def test_a_stream_without_a_descriptor(self) -> None:
        stream = io.StringIO()
        handler = LogWriter(stream)
        handler.handle(record("a"))
        handler.flush()
        self.assertEqual(stream.getvalue(), "a\n")

    def test_a_stream_that_is_closed_stops_nobody(self) -> None:
        handler = LogWriter(self.stream)
        self.stream.close()
        handler.handle(record("a"))
        handler.flush()
        self.reader.close()
        handler.handle(record("b"))
        handler.flush()

    def test_a_non_blocking_pipe(self) -> None:
        os.set_blocking(self.stream.fileno(), False)
        handler = LogWriter(self.stream)
        handler.handle(record("x" * 500_000))
        self.assertEqual(len(self.reader.readline()), 500_001)

    def test_what_cannot_be_encoded_is_escaped(self) -> None:
        handler = LogWriter(self.stream)
        handler.handle(record("a\udcff"))
        self.assertEqual(self.reader.readline(), b"a\\udcff\n")

    def test_a_fork_begins_with_nothing(self) -> None:
        handler = LogWriter(self.stream)
        handler.handle(record("before"))
        handler.flush()
        pid = os.fork()
        if not pid:
            handler.handle(record("child"))
            handler.flush()
            os._exit(0)
        os.waitpid(pid, 0)
        handler.handle(record("parent"))
        self.assertEqual([self.reader.readline() for _ in range(3)], [b"before\n", b"child\n", b"parent\n"])

    def test_threads_share_one_writer(self) -> None:
        handler = LogWriter(self.stream)
        threads = [threading.Thread(target=handler.handle, args=(record(f"{number}"),)) for number in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(sorted(int(self.reader.readline()) for _ in threads), [*range(20)])

    def test_a_process_whose_log_is_not_read_ends(self) -> None:
        with subprocess.Popen(
            [sys.executable, "-c", TO_A_FULL_PIPE], cwd=ROOT, stdout=subprocess.PIPE, stderr=self.stream
        ) as process:
            assert process.stdout is not None
            self.assertGreater(int(process.stdout.read()), 1000)
            self.assertEqual(process.wait(), 0)
