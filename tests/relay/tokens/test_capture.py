import asyncio
import os
from unittest import IsolatedAsyncioTestCase, TestCase

from relay.tokens.capture import Capture, last_line


class LastLineTests(TestCase):
    def test_what_is_shown(self) -> None:
        for printed, secrets, shown in (
            (b"", [], ""),
            (b" \n\n", [], ""),
            (b"one\ntwo \n\n", [], "two"),
            (b"\xff\x00 bytes", [], "\ufffd  bytes"),
            (b"key is s3cret.", ["s3cret"], "key is …."),
            (b"key is s3cret.", ["s3cret\n"], "key is …."),
            (b"key is line-two.", ["line-one\nline-two\n"], "key is …."),
            (b"longer-secret", ["longer", "longer-secret"], "…"),
            (b"on", ["on"], "on"),
            (b"cannot open /usr/local/share/nexus-attestor/keys/edge", [], None),
            (b"0123456789abcdef0123456789abcdef01 is bad", [], "… is bad"),
            (b"eyJhbGciOi.eyJzdWIi.c2ln is bad", [], "… is bad"),
            (b"x " * 300, [], "x " * 99 + "x…"),
        ):
            with self.subTest(printed):
                self.assertEqual(last_line(printed, secrets), printed.decode() if shown is None else shown)


class CaptureTests(IsolatedAsyncioTestCase):
    async def test_what_is_in_the_pipe_is_taken_without_its_end(self) -> None:
        with Capture(100) as capture:
            held = os.dup(capture.writer)
            capture.start()
            os.write(held, b"first ")
            await asyncio.sleep(0)
            os.write(held, b"second")
            self.assertEqual(capture.content(), b"first second")
            os.close(held)
        self.assertFalse(capture.overflowed)

    async def test_more_than_is_kept(self) -> None:
        for keep_end, kept in ((True, b"456789"), (False, b"0123456789")):
            heard: list[bool] = []
            with Capture(6, keep_end=keep_end) as capture:
                held = os.dup(capture.writer)
                capture.start(lambda: heard.append(True))  # noqa: B023 - called in this turn
                os.write(held, b"0123456789")
                self.assertEqual((capture.content(), capture.overflowed), (kept, not keep_end))
                os.close(held)
            self.assertEqual(heard, [] if keep_end else [True])

    async def test_no_descriptor_is_left(self) -> None:
        before = set(os.listdir("/proc/self/fd"))
        for started in (True, False):
            with Capture(10) as capture:
                if started:
                    capture.start()
        self.assertEqual(set(os.listdir("/proc/self/fd")), before)
