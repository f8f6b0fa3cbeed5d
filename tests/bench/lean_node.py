"""A node that does little but carry bytes, and the targets beside it: ``python -m tests.bench.lean_node DIRECTORY``.

The development node knows the whole protocol, and is slower than the relay. This one opens streams by itself, as if
users had connected, and speaks as much of the attested dialect as a node must: challenge, ``connect``, credits both
ways (64 at the beginning, then 8 for 8; docs/protocol.md, "Flow control"), ``disconnect``. It costs less CPU than the
relay, so that the relay is what is measured. Orders come as JSON lines to a control port, from `tests.bench.speed`.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
import json
import random
import struct
import sys
import time
import uuid
from collections import deque
from pathlib import Path
from typing import Any, cast

import uvloop

from relay.devnode.certificate import ensure_certificate

MESSAGE = 32 * 1024
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
CREDITS, BATCH = 64, 8
BLOCK = bytes(1 << 18)


class Target(asyncio.BufferedProtocol):
    """What a stream does is said by its first byte: Download, Upload, Echo, or a Short answer and the end."""

    def __init__(self) -> None:
        self._buffer = memoryview(bytearray(1 << 18))
        self._mode = b""
        self._full = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=1 << 19, low=1 << 18)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        if not self._mode:
            self._mode = bytes(self._buffer[:1])
            self._pump()
            if self._mode == b"S":
                self._transport.write(BLOCK[:200])
                self._transport.close()
        elif self._mode == b"E":
            self._transport.write(bytes(self._buffer[:nbytes]))

    def _pump(self) -> None:
        while self._mode == b"D" and not self._full and not self._transport.is_closing():
            self._transport.write(BLOCK)

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._pump()

    def connection_lost(self, exc: Exception | None) -> None:
        self._full = True


class Stream:
    """One user, who is played by the node itself."""

    def __init__(self, hub: Hub, mode: str, pace: float = 0.0) -> None:
        self.id = uuid.uuid4()
        self.key = self.id.bytes
        self._hub, self._mode, self._pace = hub, mode, pace
        self._credits = self._unreturned = self._echoed = 0
        self._asked = 0.0
        self._frame = b"\x82\x7e" + struct.pack("!H", 17 + MESSAGE) + b"\x01" + self.key + bytes(MESSAGE)
        hub.streams[self.key] = self
        hub.control(
            self.id, event="connect", conn_port=443, client_ip="203.0.113.9:5", hostname="app.example.com",
            transport="tcp", credits=CREDITS,
        )  # fmt: skip
        hub.send(2, b"\x01" + self.key + mode.encode())
        if mode == "E":
            asyncio.get_running_loop().call_later(0.5 + pace * random.random(), self._ask)

    def granted(self, credits: int) -> None:
        self._credits += credits
        self.pump()

    def pump(self) -> None:
        if self._mode == "U":
            while self._credits > 0 and not self._hub.full:
                self._credits -= 1
                self._hub.write(self._frame)
                self._hub.carried += MESSAGE

    def data(self, size: int) -> None:
        self._hub.carried += size
        self._unreturned += 1
        if self._unreturned == BATCH:
            self._unreturned = 0
            self._hub.control(self.id, event="resume_stream", credits=BATCH)
        if self._mode == "E":
            self._echoed += size
            if self._echoed >= 64:
                self._echoed -= 64
                self._hub.round_trips.append(time.perf_counter() - self._asked)
                if self._pace:
                    asyncio.get_running_loop().call_later(self._pace, self._ask)
                else:
                    self._ask()

    def _ask(self) -> None:
        if self.key in self._hub.streams:
            self._asked = time.perf_counter()
            self._hub.send(2, b"\x01" + self.key + bytes(64))

    def ended(self) -> None:
        self._hub.finished += 1
        if self._mode == "S":
            Stream(self._hub, "S")

    def leave(self) -> None:
        self._hub.streams.pop(self.key, None)
        self._hub.control(self.id, event="disconnect")


class Hub(asyncio.BufferedProtocol):
    """The node's side of one session."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._buffer = bytearray(1 << 20)
        self._view = memoryview(self._buffer)
        self._have = 0
        self._upgraded = False
        self._tokens = 0
        self.streams: dict[bytes, Stream] = {}
        self.full = False
        self.carried = self.finished = 0
        self.round_trips: deque[float] = deque()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=1 << 21, low=1 << 20)

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False
        for stream in list(self.streams.values()):
            stream.pump()

    def connection_lost(self, exc: Exception | None) -> None:
        self.full = True
        self._node.hubs.discard(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._view[self._have :]

    def buffer_updated(self, nbytes: int) -> None:
        self._have += nbytes
        if not self._upgraded and not self._upgrade():
            return
        used, buffer, have = 0, self._buffer, self._have
        while have - used >= 6:
            size, start = buffer[used + 1] & 127, used + 2
            if size == 126:
                size, start = buffer[used + 2] << 8 | buffer[used + 3], used + 4
            if have - start - 4 < size:
                break
            self._frame(buffer[used] & 15, bytes(buffer[start : start + 4]), start + 4, size)
            used = start + 4 + size
        buffer[: have - used] = buffer[used:have]
        self._have = have - used

    def _upgrade(self) -> bool:
        head, end, _ = bytes(self._view[: self._have]).partition(b"\r\n\r\n")
        if not end:
            return False
        key = next(line[18:].strip() for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key"))
        accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
        self.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        self._upgraded, self._have = True, 0
        return True

    def _frame(self, opcode: int, mask: bytes, start: int, size: int) -> None:
        if opcode == 2:
            # Of data only the header is unmasked: nobody looks at the rest.
            head = self._unmask(mask, start, min(17, size))
            stream = self.streams.get(head[1:])
            if head[0] == 1:
                if stream is not None:
                    stream.data(size - 17)
            else:
                self._control(json.loads(self._unmask(mask, start, size)[1:]))
        elif opcode == 1:
            self._tokens += 1
            if self._tokens == 1:
                self.send(1, json.dumps({"type": "handshake_challenge", "nonce": "n" * 43}).encode())
            else:
                self._node.hubs.add(self)
                self.control(uuid.UUID(int=0), event="pong_client")  # a first binary frame: the session is up
        elif opcode == 9:
            self.send(10, b"")
        elif opcode == 8:
            self.send(8, b"")
            self._transport.close()

    def _unmask(self, mask: bytes, start: int, size: int) -> bytes:
        return bytes(map(int.__xor__, self._buffer[start : start + size], itertools.cycle(mask)))

    def _control(self, message: dict[str, Any]) -> None:
        stream = self.streams.get(uuid.UUID(message["client_id"]).bytes)
        if stream is None:
            return
        if message["event"] == "resume_stream":
            stream.granted(message.get("credits", 0))
        elif message["event"] == "disconnect":
            del self.streams[stream.key]
            stream.ended()

    def write(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)

    def send(self, opcode: int, payload: bytes) -> None:
        size = len(payload)
        length = bytes((size,)) if size < 126 else b"\x7e" + struct.pack("!H", size)
        self.write(bytes((0x80 | opcode,)) + length + payload)

    def control(self, stream_id: uuid.UUID, **fields: Any) -> None:
        self.send(2, b"\x02" + json.dumps({"client_id": str(stream_id), **fields}).encode())


class Node:
    """All sessions, and the control port's orders."""

    def __init__(self) -> None:
        self.hubs: set[Hub] = set()

    async def orders(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async for line in reader:
            order = json.loads(line)
            writer.write(json.dumps(getattr(self, order.pop("order"))(**order)).encode() + b"\n")
        writer.close()

    def sessions(self) -> int:
        return len(self.hubs)

    def open(self, mode: str, count: int, pace: float = 0.0) -> None:
        """Open ``count`` streams on each session."""
        for hub in self.hubs:
            for _ in range(count):
                Stream(hub, mode, pace)

    def leave(self) -> None:
        """Let all users leave."""
        for hub in self.hubs:
            for stream in list(hub.streams.values()):
                stream.leave()

    def take(self) -> dict[str, Any]:
        """Return what was carried since the last time, and forget it."""
        taken: dict[str, Any] = {
            "carried": [hub.carried for hub in self.hubs],
            "finished": sum(hub.finished for hub in self.hubs),
            "streams": sum(len(hub.streams) for hub in self.hubs),
            "round_trips": sorted(itertools.chain.from_iterable(hub.round_trips for hub in self.hubs)),
        }
        trips = taken.pop("round_trips")
        taken["round_trips"] = len(trips)
        for name, share in (("p50", 0.5), ("p99", 0.99)):
            taken[name] = trips[min(len(trips) - 1, int(len(trips) * share))] if trips else 0.0
        for hub in self.hubs:
            hub.carried = hub.finished = 0
            hub.round_trips.clear()
        return taken


async def main(directory: Path, hub_port: int, target_port: int, control_port: int) -> None:
    """Serve until the process is ended."""
    loop, node = asyncio.get_running_loop(), Node()
    context = ensure_certificate(directory).server_context()
    await loop.create_server(Target, "127.0.0.1", target_port, backlog=4096)
    await loop.create_server(lambda: Hub(node), "127.0.0.1", hub_port, ssl=context)
    server = await asyncio.start_server(node.orders, "127.0.0.1", control_port)
    await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(Path(sys.argv[1]), *(int(port) for port in sys.argv[2:])))
