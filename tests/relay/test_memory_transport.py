"""Tests of relay.memory_transport."""

import asyncio
import socket
import struct
from unittest import IsolatedAsyncioTestCase

from relay.memory_transport import HIGH_WATER, MemoryTransport, memory_stream, splice

WAIT = 10


class Recorder(asyncio.Protocol):
    """Writes down what happens to one end."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.calls: list[str] = []
        self.error: Exception | None = None
        self.changed = asyncio.Condition()
        self.keep_open = True

    def data_received(self, data: bytes) -> None:
        assert isinstance(data, bytes)
        self.data += data
        self.note("")

    def eof_received(self) -> bool:
        self.note("eof")
        return self.keep_open

    def pause_writing(self) -> None:
        self.note("pause")

    def resume_writing(self) -> None:
        self.note("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.error = exc
        self.note("lost")

    def note(self, what: str) -> None:
        if what:
            self.calls.append(what)

    async def until(self, *calls: str) -> None:
        async with asyncio.timeout(WAIT):
            while self.calls[-len(calls) :] != list(calls):
                await asyncio.sleep(0)

    async def until_size(self, size: int) -> None:
        async with asyncio.timeout(WAIT):
            while len(self.data) < size:
                await asyncio.sleep(0)


class SmallBuffer(asyncio.BufferedProtocol):
    """Takes little at a time."""

    def __init__(self, size: int) -> None:
        self.buffer = bytearray(size)
        self.data = bytearray()
        self.reads = 0
        self.ended = asyncio.Event()

    def get_buffer(self, sizehint: int) -> memoryview:
        return memoryview(self.buffer)

    def buffer_updated(self, nbytes: int) -> None:
        self.reads += 1
        self.data += self.buffer[:nbytes]

    def eof_received(self) -> bool:
        self.ended.set()
        return True


class MemoryStreamTests(IsolatedAsyncioTestCase):
    def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, MemoryTransport, Recorder]:
        reader, writer, upstream = memory_stream()
        recorder = Recorder()
        upstream.set_protocol(recorder)
        self.addCleanup(writer.close)
        self.addCleanup(upstream.abort)
        return reader, writer, upstream, recorder

    async def test_both_ways_in_order(self) -> None:
        reader, writer, upstream, recorder = self.open()
        for number in range(100):
            writer.write(b"%d," % number)
            upstream.write(b"%d;" % number)
        expected = b"".join(b"%d," % number for number in range(100))
        await recorder.until_size(len(expected))
        self.assertEqual(recorder.data, expected)
        self.assertEqual(await reader.readexactly(len(expected)), expected.replace(b",", b";"))

    async def test_what_is_written_is_copied(self) -> None:
        _, writer, _, recorder = self.open()
        data = bytearray(b"before")
        writer.transport.write(data)
        data[:] = b"after!"
        await recorder.until_size(6)
        self.assertEqual(recorder.data, b"before")

    async def test_what_is_written_before_a_protocol_is_set_waits(self) -> None:
        _, writer, upstream = memory_stream()
        self.addCleanup(writer.close)
        writer.write(b"early")
        await asyncio.sleep(0)
        recorder = Recorder()
        upstream.set_protocol(recorder)
        await recorder.until_size(5)
        upstream.abort()

    async def test_a_slow_reader_holds_the_writer_back(self) -> None:
        _, writer, upstream, recorder = self.open()
        upstream.pause_reading()
        sent = 0
        with self.assertRaises(TimeoutError):
            async with asyncio.timeout(0.05):
                while True:
                    writer.write(bytes(16384))
                    sent += 16384
                    await writer.drain()
        self.assertLessEqual(sent, HIGH_WATER + 16384)
        self.assertEqual((len(recorder.data), writer.transport.get_write_buffer_size()), (0, sent))
        upstream.resume_reading()
        async with asyncio.timeout(WAIT):
            await writer.drain()
        await recorder.until_size(sent)

    async def test_an_application_that_does_not_read_holds_the_relay_back(self) -> None:
        reader, _, upstream, recorder = self.open()
        sent = 0
        async with asyncio.timeout(WAIT):
            while "pause" not in recorder.calls:
                upstream.write(bytes(16384))
                sent += 16384
                await asyncio.sleep(0)
        self.assertLess(sent, 5 * HIGH_WATER)
        self.assertEqual(len(await reader.readexactly(sent)), sent)
        await recorder.until("resume")

    async def test_water_marks_are_settable(self) -> None:
        _, _, upstream, recorder = self.open()
        upstream.set_write_buffer_limits(high=10)
        self.assertEqual(upstream.get_write_buffer_limits(), (2, 10))
        upstream.write(bytes(10))
        self.assertEqual(recorder.calls, [])
        upstream.write(b"x")
        self.assertEqual(recorder.calls, ["pause"])

    async def test_a_buffered_protocol_gets_long_data_piece_by_piece(self) -> None:
        _, writer, upstream = memory_stream()
        self.addCleanup(writer.close)
        small = SmallBuffer(1000)
        upstream.set_protocol(small)
        data = bytes(range(256)) * 4000
        writer.write(data)
        writer.write_eof()
        async with asyncio.timeout(WAIT):
            await small.ended.wait()
        self.assertEqual(small.data, data)
        self.assertEqual(small.reads, -(-len(data) // 1000))
        upstream.abort()

    async def test_eof_comes_after_all_data_and_the_other_way_stays_open(self) -> None:
        reader, writer, upstream, recorder = self.open()
        writer.write(b"request")
        writer.write_eof()
        await recorder.until("eof")
        self.assertEqual(recorder.data, b"request")
        upstream.write(b"answer")
        self.assertEqual(await reader.readexactly(6), b"answer")

    async def test_eof_closes_where_the_protocol_wants_it(self) -> None:
        reader, writer, upstream, recorder = self.open()
        recorder.keep_open = False
        writer.write_eof()
        await recorder.until("eof", "lost")
        self.assertTrue(upstream.is_closing())
        self.assertIsNone(recorder.error)
        self.assertEqual(await reader.read(), b"")

    async def test_close_delivers_what_was_written(self) -> None:
        _, writer, _, recorder = self.open()
        writer.write(b"x" * 100_000)
        writer.close()
        await writer.wait_closed()
        await recorder.until("eof")
        self.assertEqual(len(recorder.data), 100_000)

    async def test_nothing_arrives_after_close(self) -> None:
        _, writer, upstream, recorder = self.open()
        writer.write(b"late")
        upstream.close()
        await recorder.until("lost")
        self.assertEqual(recorder.data, b"")

    async def test_writing_to_an_end_that_has_closed_breaks(self) -> None:
        reader, writer, upstream, _ = self.open()
        upstream.close()
        self.assertEqual(await reader.read(), b"")
        with self.assertRaises(ConnectionError):
            async with asyncio.timeout(WAIT):
                while True:
                    writer.write(bytes(16384))
                    await writer.drain()
        self.assertEqual(upstream._incoming_size, 0)

    async def test_a_writer_that_waits_is_freed_when_the_other_end_closes(self) -> None:
        _, writer, upstream, _ = self.open()
        upstream.pause_reading()
        writer.write(bytes(10 * HIGH_WATER))
        drained = asyncio.create_task(writer.drain())
        await asyncio.sleep(0)
        self.assertFalse(drained.done())
        upstream.close()
        async with asyncio.timeout(WAIT):
            await drained

    async def test_abort_breaks_both_ends_and_drops_what_waits(self) -> None:
        reader, writer, upstream, recorder = self.open()
        writer.write(b"x")
        writer.transport.abort()
        await recorder.until("lost")
        self.assertIsInstance(recorder.error, ConnectionResetError)
        self.assertEqual(recorder.data, b"")
        self.assertTrue(upstream.is_closing())
        reader, writer, upstream, recorder = self.open()
        upstream.abort()
        upstream.abort()
        with self.assertRaises(ConnectionResetError):
            await reader.read()
        self.assertEqual(recorder.calls, ["lost"])
        writer.write(b"ignored")
        writer.close()


class SpliceTests(IsolatedAsyncioTestCase):
    async def asyncSetUp(self) -> None:
        self.accepted: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self.accepted.put((reader, writer))

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        self.addAsyncCleanup(server.wait_closed)
        self.addCleanup(server.close)
        port = server.sockets[0].getsockname()[1]
        self.upstream, self.task = splice(*await asyncio.open_connection("127.0.0.1", port))
        self.recorder = Recorder()
        self.upstream.set_protocol(self.recorder)
        self.reader, self.writer = await self.accepted.get()
        self.addCleanup(self.writer.close)

    async def finished(self) -> None:
        async with asyncio.timeout(WAIT):
            await self.task

    async def test_bytes_and_ends_both_ways(self) -> None:
        body = bytes(range(256)) * 4000

        async def serve() -> None:
            self.assertEqual(await self.reader.read(-1), body)
            self.writer.write(body[::-1])
            await self.writer.drain()
            self.writer.close()

        serving = asyncio.create_task(serve())
        self.upstream.write(body)
        self.upstream.write_eof()
        await self.recorder.until("eof")
        await serving
        self.assertEqual(self.recorder.data, body[::-1])
        await self.finished()

    async def test_a_reset_target_is_not_a_clean_end(self) -> None:
        self.writer.write(b"half")
        await self.recorder.until_size(4)
        linger = struct.pack("ii", 1, 0)  # close with a reset
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()
        await self.recorder.until("lost")
        self.assertIsInstance(self.recorder.error, ConnectionResetError)
        await self.finished()

    async def test_the_relay_aborts(self) -> None:
        self.upstream.abort()
        await self.finished()
        async with asyncio.timeout(WAIT):
            self.assertEqual(await self.reader.read(), b"")

    async def test_cancelling_closes_both_ends(self) -> None:
        self.task.cancel()
        with self.assertRaises(asyncio.CancelledError):
            await self.task
        await self.recorder.until("eof")
        async with asyncio.timeout(WAIT):
            self.assertEqual(await self.reader.read(), b"")


class BrokenReader(asyncio.StreamReader):
    """A connection that dies with an error that is not a ConnectionError, as TLS and time-outs do."""

    async def read(self, n: int = -1) -> bytes:
        raise OSError("broken")


class BrokenSpliceTests(IsolatedAsyncioTestCase):
    async def test_any_os_error_breaks_the_stream_and_not_the_task(self) -> None:
        far_reader, far_writer, near = memory_stream()
        near_protocol = asyncio.StreamReaderProtocol(asyncio.StreamReader())
        near.set_protocol(near_protocol)
        near_protocol.connection_made(near)
        writer = asyncio.StreamWriter(near, near_protocol, None, asyncio.get_running_loop())
        upstream, task = splice(BrokenReader(), writer)
        recorder = Recorder()
        upstream.set_protocol(recorder)
        await recorder.until("lost")
        self.assertIsInstance(recorder.error, ConnectionResetError)
        async with asyncio.timeout(WAIT):
            await task
            await far_reader.read()
        far_writer.close()
