"""Tests of relay.transport.connection against raw sockets: a hub that can say anything."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import logging
import struct
from collections.abc import AsyncIterator
from unittest import mock

from django.test import SimpleTestCase

from relay import Timings
from relay.config import NodeConfig
from relay.protocol.frames import MAX_INCOMING_MESSAGE
from relay.protocol.messages import MAX_JSON
from relay.transport.connection import NodeConnection
from relay.transport.opening import NodeDialer
from tests.support.raw_server import Serve, raw_server
from tests.support.relays import Leaks, on_both_loops, quick, recorded_logs
from tests.support.waiting import async_wait_until

TEXT, BINARY, CLOSE, PING, PONG, CONT = 1, 2, 8, 9, 10, 0

QUICK = quick(close_grace=0.05)


class Listener:
    """A receiver that remembers."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.messages: list[bytes] = []
        self.enough = False
        self.late: list[bytes] = []
        self.batches = 0
        self.resumed = 0
        self.ends: list[tuple[int, str, Exception | None]] = []

    def text_received(self, text: str) -> None:
        self.texts.append(text)

    def binary_received(self, message: bytes | bytearray | memoryview) -> bool:
        self.messages.append(bytes(message))
        return self.enough

    def late_received(self, message: bytes | bytearray | memoryview) -> None:
        self.late.append(bytes(message))

    def batch_received(self) -> None:
        self.batches += 1

    def writing_resumed(self) -> None:
        self.resumed += 1

    def connection_ended(self, code: int, reason: str, error: Exception | None) -> None:
        self.ends.append((code, reason, error))


def frame(opcode: int, data: bytes = b"", *, fin: bool = True) -> bytes:
    """An unmasked frame of a server (RFC 6455, section 5.2)."""
    first = opcode | (0x80 if fin else 0)
    if len(data) < 126:
        head = struct.pack("!BB", first, len(data))
    elif len(data) < 65536:
        head = struct.pack("!BBH", first, 126, len(data))
    else:
        head = struct.pack("!BBQ", first, 127, len(data))
    return head + data


async def read_frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """The next frame of a client: opcode and unmasked payload."""
    first, second = await reader.readexactly(2)
    size = second & 0x7F
    assert second & 0x80, "a client masks"
    if size == 126:
        (size,) = struct.unpack("!H", await reader.readexactly(2))
    elif size == 127:
        (size,) = struct.unpack("!Q", await reader.readexactly(8))
    mask = await reader.readexactly(4)
    data = await reader.readexactly(size)
    return first & 0x0F, bytes(byte ^ mask[index % 4] for index, byte in enumerate(data))


async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, more: bytes = b"") -> None:
    """Answer the upgrade request; ``more`` goes out with the answer."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    assert "Sec-WebSocket-Extensions" not in head and "Sec-WebSocket-Protocol" not in head
    key = next(line.split(": ")[1] for line in head.split("\r\n") if line.lower().startswith("sec-websocket-key"))
    digest = hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()
    writer.write(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\n" + more
    )
    await writer.drain()


async def to_the_end(reader: asyncio.StreamReader) -> None:
    """Say nothing until the client has closed the socket."""
    while not reader.at_eof():
        await reader.read(65536)


async def serve_upgrade(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the upgrade request, and then say nothing."""
    await accept(reader, writer)
    await to_the_end(reader)


@contextlib.asynccontextmanager
async def hub(serve: Serve) -> AsyncIterator[NodeConfig]:
    """A raw server as a node; ``serve`` gets each connection."""
    async with raw_server(serve) as port:
        yield NodeConfig(f"ws://127.0.0.1:{port}/connect")


@contextlib.asynccontextmanager
async def connected(serve: Serve, timings: Timings = QUICK) -> AsyncIterator[tuple[NodeConnection, Listener]]:
    """A connection to a hub that does ``serve`` after the upgrade."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await accept(reader, writer)
        await serve(reader, writer)

    async with hub(handle) as node:
        listener = Listener()
        connection = await NodeDialer(timings=timings).open(node, listener)
        try:
            yield connection, listener
        finally:
            connection.abort(ConnectionAbortedError())


async def ended(listener: Listener) -> tuple[int, str, Exception | None]:
    """The end that was told, which comes once."""
    await async_wait_until(lambda: listener.ends, "the end", timeout=5)
    (end,) = listener.ends
    return end


class MessageTests(SimpleTestCase):
    async def _received(self, data: bytes) -> Listener:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(data + frame(CLOSE, struct.pack("!H", 1000) + b"done"))
            await writer.drain()
            await reader.read()

        async with connected(serve) as (_, listener):
            await ended(listener)
            return listener

    @on_both_loops
    async def test_fragments_are_joined_with_control_frames_between_them(self) -> None:
        data = (
            frame(BINARY, b"ab", fin=False)
            + frame(PING, b"x")
            + frame(CONT, b"", fin=False) * 1000
            + frame(CONT, b"cd", fin=False)
            + frame(CONT, b"e")
            + frame(TEXT, b"t\xc3", fin=False)
            + frame(CONT, b"\xa4")
            + frame(BINARY, b"whole")
        )
        listener = await self._received(data)
        self.assertEqual((listener.messages, listener.texts), ([b"abcde", b"whole"], ["tä"]))
        self.assertEqual(listener.ends, [(1000, "done", None)])

    @on_both_loops
    async def test_a_flood_of_messages_leaves_turns_of_the_loop_to_others(self) -> None:
        flood = b"".join(frame(BINARY, str(number).encode()) for number in range(20_000))

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(flood + frame(CLOSE, struct.pack("!H", 1000)))
            await to_the_end(reader)

        with mock.patch("relay.transport.connection.MESSAGES_A_TURN", 50):
            async with connected(serve) as (_, listener):
                most, seen = 0, 0
                while not listener.ends:
                    await asyncio.sleep(0)
                    most, seen = max(most, len(listener.messages) - seen), len(listener.messages)
        self.assertEqual(listener.messages, [str(number).encode() for number in range(20_000)])
        self.assertLessEqual(most, 100)

    @on_both_loops
    async def test_costly_messages_leave_turns_of_the_loop_to_others(self) -> None:
        """A turn ends where its time is over, or where the receiver has had enough."""
        flood = b"".join(frame(BINARY, str(number).encode()) for number in range(500))

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readexactly(1)
            writer.write(flood)
            await to_the_end(reader)

        for turn, enough, limit in ((0.0, False, 8), (1000.0, True, 1)):
            with mock.patch("relay.transport.connection.TURN", turn):
                async with connected(serve) as (connection, listener):
                    listener.enough = enough
                    connection.send(b"go")
                    await async_wait_until(lambda listener=listener: len(listener.messages) == 500, "all")
                    self.assertGreaterEqual(listener.batches, 500 // limit)
            self.assertEqual(listener.messages, [str(number).encode() for number in range(500)])

    @on_both_loops
    async def test_what_waits_for_its_turn_is_not_lost_with_the_connection(self) -> None:
        flood = b"".join(frame(BINARY, str(number).encode()) for number in range(1000))

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readexactly(1)
            writer.write(flood)
            writer.close()

        async with connected(serve) as (connection, listener):
            listener.enough = True
            connection.send(b"go")
            await async_wait_until(lambda: listener.messages, "the first")
            connection.abort(ConnectionAbortedError())
            await ended(listener)
        self.assertEqual(listener.messages, [str(number).encode() for number in range(1000)])

    @on_both_loops
    async def test_of_a_long_text_only_its_beginning_is_decoded(self) -> None:
        listener = await self._received(frame(TEXT, b"\xff" * MAX_INCOMING_MESSAGE))
        self.assertEqual([len(text) for text in listener.texts], [MAX_JSON + 1])

    @on_both_loops
    async def test_a_message_in_too_many_fragments_ends_the_connection(self) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(frame(BINARY, b"a", fin=False) + frame(CONT, b"", fin=False) * 10_000 + frame(TEXT, b"x"))
            await reader.read()

        async with connected(serve) as (_, listener):
            await ended(listener)
            self.assertEqual(listener.messages, [])
            code, _, error = listener.ends[0]
            self.assertEqual((code, str(error)), (1006, "node broke the protocol: message in more than 4096 fragments"))
            self.assertEqual(listener.texts, [])

    @on_both_loops
    async def test_text_that_is_not_utf8_breaks_nothing(self) -> None:
        listener = await self._received(frame(TEXT, b"\xff\xfe") + frame(BINARY, b"after"))
        self.assertEqual((listener.texts, listener.messages), (["��"], [b"after"]))

    @on_both_loops
    async def test_a_message_of_1_mib_is_taken(self) -> None:
        whole = frame(BINARY, b"x" * MAX_INCOMING_MESSAGE)
        half = MAX_INCOMING_MESSAGE // 2
        parts = frame(BINARY, b"y" * half, fin=False) + frame(CONT, b"z" * half)
        listener = await self._received(whole + parts)
        self.assertEqual([len(message) for message in listener.messages], [MAX_INCOMING_MESSAGE] * 2)

    @on_both_loops
    async def test_a_longer_message_closes_with_1009(self) -> None:
        half = MAX_INCOMING_MESSAGE // 2
        for data in (
            frame(BINARY, b"x" * (MAX_INCOMING_MESSAGE + 1)),
            frame(BINARY, b"x" * half, fin=False) + frame(CONT, b"x" * half, fin=False) + frame(CONT, b"x"),
            struct.pack("!BBQ", 0x82, 127, 2**62),
        ):
            codes: list[int] = []

            async def serve(
                reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes = data, codes: list[int] = codes
            ) -> None:
                writer.write(data)
                opcode, payload = await read_frame(reader)
                assert opcode == CLOSE
                codes.append(struct.unpack("!H", payload[:2])[0])

            async with connected(serve) as (_, listener):
                code, _, error = await ended(listener)
            self.assertEqual((codes, code, listener.messages), ([1009], 1006, []))
            self.assertIn("broke the protocol", str(error))

    @on_both_loops
    async def test_bytes_that_are_no_frames_end_the_session(self) -> None:
        for data in (b"HTTP/1.1 200 OK\r\n\r\n", b"\xff" * 100, frame(CONT, b"x"), frame(3, b"reserved"), b"\x82\xff"):

            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes = data) -> None:
                writer.write(data)
                writer.write_eof()
                await reader.read()

            async with connected(serve) as (connection, listener):
                code, _, _ = await ended(listener)
                self.assertEqual((code, listener.messages), (1006, []))
                connection.send(b"after the end")  # does nothing
                connection.flush()
                connection.check()

    @on_both_loops
    async def test_frames_that_come_with_the_upgrade_are_not_lost(self) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await accept(reader, writer, frame(TEXT, b"early") + frame(BINARY, b"bird"))
            await reader.read()

        async with hub(serve) as node:
            listener = Listener()
            connection = await NodeDialer(timings=QUICK).open(node, listener)
            await async_wait_until(lambda: listener.messages, "the frames")
            self.assertEqual((listener.texts, listener.messages), (["early"], [b"bird"]))
            connection.abort(ConnectionAbortedError())
            await ended(listener)

    @on_both_loops
    async def test_what_is_sent_arrives_masked_and_in_order(self) -> None:
        got: list[tuple[int, bytes]] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            for _ in range(4):
                got.append(await read_frame(reader))

        async with connected(serve) as (connection, listener):
            connection.send("token")
            connection.send(b"\x01data")
            connection.send(b"x" * 200)
            connection.send(b"y" * 70_000)
            connection.flush()
            await ended(listener)
        self.assertEqual(got, [(TEXT, b"token"), (BINARY, b"\x01data"), (BINARY, b"x" * 200), (BINARY, b"y" * 70_000)])


def _read(connection: NodeConnection) -> bool:
    """Say whether anything has come behind the handshake."""
    return bool(connection._rest or connection._large is not None or connection._unfinished or connection._decoder.used)


class LivenessTests(SimpleTestCase):
    @on_both_loops
    async def test_pings_are_answered_and_sent(self) -> None:
        got: list[tuple[int, bytes]] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(frame(PING, b"are you there"))
            got.append(await read_frame(reader))
            got.append(await read_frame(reader))
            await reader.read()

        async with connected(serve, quick(ping_interval=0.0)) as (connection, _):
            await async_wait_until(lambda: got, "the pong")
            connection.check()
            await async_wait_until(lambda: len(got) == 2, "the ping")
        self.assertEqual(got, [(PONG, b"are you there"), (PING, b"")])

    @on_both_loops
    async def test_a_node_that_answers_no_ping_is_given_up(self) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()

        async with connected(serve) as (connection, listener):
            connection._liveness.heard_at -= 1000
            connection.check()
            _, _, error = await ended(listener)
            self.assertIsInstance(error, TimeoutError)
            self.assertIn("no frame and no pong", str(error))

    @on_both_loops
    async def test_only_whole_frames_or_much_of_one_show_a_node_to_be_alive(self) -> None:
        for part, alive in (
            (frame(BINARY, b"x" * 1000)[:10], False),
            (frame(BINARY, b"x" * 1000)[:1003], False),
            (frame(BINARY, b"x" * 1000), True),
            (frame(BINARY, b"x" * 500_000)[:100_000], True),
            (frame(PING), True),
        ):

            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, part: bytes = part) -> None:
                await reader.readexactly(1)
                writer.write(part)
                await to_the_end(reader)

            with self.subTest(len(part)):
                async with connected(serve) as (connection, _):
                    long_ago = connection._liveness.heard_at = connection._liveness.heard_at - 1000
                    connection.send(b"go")
                    await async_wait_until(lambda connection=connection: _read(connection), "what was sent")
                    self.assertEqual(connection._liveness.heard_at > long_ago, alive)

    @on_both_loops
    async def test_a_process_that_slept_gives_nobody_up(self) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()

        async with connected(serve) as (connection, listener):
            connection._liveness.heard_at -= 1000
            connection._liveness._checked_at -= 1000
            connection.check()
            self.assertEqual(listener.ends, [])

    @on_both_loops
    async def test_a_write_that_stalls_is_given_up(self) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            await asyncio.Event().wait()

        async with connected(serve) as (connection, listener):
            for _ in range(400):
                if connection.write_blocked:
                    break
                connection.send(b"x" * 32768)
                connection.flush()
                await asyncio.sleep(0)
            self.assertTrue(connection.write_blocked)
            connection.check()
            taken, since = connection._liveness._progress
            connection._liveness._progress = (taken, since - 1000)
            connection.check()
            _, _, error = await ended(listener)
            self.assertIn("took nothing of a write", str(error))

    @on_both_loops
    async def test_a_node_that_never_reads_its_answers_is_given_up(self) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            while True:
                writer.write(frame(PING, b"p" * 125) * 500)
                await writer.drain()

        with mock.patch("relay.transport.connection.WRITE_LIMIT", 512 * 1024):
            async with connected(serve) as (_, listener):
                _, _, error = await ended(listener)
                self.assertIn("does not read", str(error))


class CloseTests(SimpleTestCase):
    @on_both_loops
    async def test_a_close_is_answered_and_told_with_its_reason(self) -> None:
        got: list[tuple[int, bytes]] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(frame(BINARY, b"last") + frame(CLOSE, struct.pack("!H", 1008) + b"go away"))
            got.append(await read_frame(reader))

        async with connected(serve) as (_, listener):
            self.assertEqual(await ended(listener), (1008, "go away", None))
        self.assertEqual(listener.messages, [b"last"])
        self.assertEqual(got, [(CLOSE, struct.pack("!H", 1008) + b"go away")])

    @on_both_loops
    async def test_a_node_that_does_not_close_the_socket(self) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(frame(CLOSE, struct.pack("!H", 1001)))
            await reader.read()
            await asyncio.Event().wait()

        async with connected(serve) as (_, listener):
            self.assertEqual(await ended(listener), (1001, "", None))

    @on_both_loops
    async def test_our_close_ignores_what_still_comes_and_waits_for_the_node_s(self) -> None:
        codes: list[bytes] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            opcode, data = await read_frame(reader)
            assert opcode == CLOSE
            codes.append(data)
            for _ in range(50):
                writer.write(frame(BINARY, b"late") + frame(TEXT, b"late"))
                await writer.drain()
                await asyncio.sleep(0.002)
            writer.write(frame(CLOSE, data))
            finished.set()

        finished = asyncio.Event()
        async with connected(serve) as (connection, listener):
            await connection.close()
            self.assertTrue(finished.is_set())
            self.assertEqual((listener.messages, listener.texts), ([], []))
            self.assertEqual(listener.late, [b"late"] * 50)
            self.assertEqual(listener.ends, [(1000, "", None)])
        self.assertEqual(codes, [struct.pack("!H", 1000)])

    @on_both_loops
    async def test_our_close_does_not_wait_for_ever(self) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await asyncio.Event().wait()

        leaks = Leaks()
        async with connected(serve) as (connection, listener):
            await connection.close(timeout=0.05)
            await ended(listener)
            await connection.close(timeout=0.05)
        await leaks.check()


class LogTests(SimpleTestCase):
    @on_both_loops
    async def test_no_frame_is_ever_logged(self) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_frame(reader)
            writer.write(frame(TEXT, b"secret-challenge"))
            await reader.read()

        roots = [logging.getLogger(name) for name in ("", "websockets", "websockets.client")]
        levels = [logger.level for logger in roots]
        with recorded_logs(logging.DEBUG) as recorder:
            with self.assertLogs(level=logging.DEBUG) as everything:
                logging.getLogger("test").debug("at least one line")
                for logger in roots:
                    logger.setLevel(logging.DEBUG)
                try:
                    async with connected(serve) as (connection, listener):
                        connection.send("secret-token")
                        connection.flush()
                        await async_wait_until(lambda: listener.texts, "the answer")
                finally:
                    for logger, level in zip(roots, levels, strict=True):
                        logger.setLevel(level)
        self.assertNotIn("secret", recorder.text() + "".join(everything.output))
