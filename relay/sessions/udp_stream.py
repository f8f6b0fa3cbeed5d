"""UDP streams: one user's flow and its target's socket."""

from __future__ import annotations

import asyncio
import socket
from typing import Final, cast

from relay.protocol.frames import MAX_PAYLOAD
from relay.protocol.messages import Reason
from relay.protocol.stream import StreamState
from relay.sessions.streams import MESSAGE_OVERHEAD, Stream, StreamHost, StreamStep

UDP_QUEUE: Final = 64
"""Datagrams that wait while a flow's target is dialled."""

UDP_QUEUED: Final = 256 * 1024
"""Bytes of them, with what keeping each costs."""


class UdpStream(Stream, asyncio.DatagramProtocol):
    """A UDP flow: one data message is one datagram. What does not fit is dropped and counted."""

    def __init__(self, host: StreamHost, state: StreamState) -> None:
        super().__init__(host, state)
        host.stream_begun(self)
        self._socket: socket.socket | None = None
        self._transport: asyncio.DatagramTransport | None = None
        self._queue: list[bytes] = []

    async def open(self, sock: socket.socket) -> None:
        """Start on a connected socket."""
        try:
            await asyncio.get_running_loop().create_datagram_endpoint(lambda: self, sock=sock)
        except BaseException:
            # uvloop leaves the endpoint open where the wait for it is cancelled.
            if self._transport is None:
                sock.close()
            else:
                self._transport.abort()
            raise
        self._socket = sock
        queue, self._queue, self.queued = self._queue, [], 0
        for payload in queue:
            self.receive(payload)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)  # uvloop's is none by inheritance

    def datagram_received(self, data: bytes, addr: object) -> None:
        host = self.host
        if self.ended:
            return
        pacers = self.gate.download
        if (
            len(data) > MAX_PAYLOAD
            or host.write_blocked
            or not self.state.can_send()
            or (pacers is not None and not pacers.pay_now(len(data)))
        ):
            host.totals.datagrams_dropped += 1
            return
        host.send_data(self, memoryview(data))

    def error_received(self, exc: Exception) -> None:
        # An ICMP error: nothing listens there now. The flow lives on, as UDP does.
        self.host.totals.datagrams_refused += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self._socket = self._transport = None
        self.end(Reason.LOCAL_ERROR if exc else Reason.NORMAL)
        self.host.stream_gone(self)

    def receive(self, payload: bytes | memoryview) -> None:
        if self._socket is None:
            waits = len(payload) + MESSAGE_OVERHEAD
            if len(self._queue) < UDP_QUEUE and self.queued + waits <= UDP_QUEUED and not self.ended:
                self._queue.append(bytes(payload))
                self.queued += waits
                self.host.stream_queued(self, waits)
                return
            self.host.totals.datagrams_dropped += 1
        elif (pacers := self.gate.upload) is not None and not pacers.pay_now(len(payload)):
            self.host.totals.datagrams_dropped += 1
        else:
            try:
                self._socket.sendmsg((self.preface, payload)) if self.preface else self._socket.send(payload)
            except BlockingIOError:
                self.host.totals.datagrams_dropped += 1
            except OSError as error:
                self.error_received(error)
        self.host.consumed(self, 1)

    def writable(self) -> None:
        """Nothing waits here: a datagram that could not be sent at once was dropped."""

    def finish(self) -> None:
        self.abort()

    def abort(self) -> None:
        self.advance(StreamStep.ABORTED)
        self._queue.clear()
        self.queued = 0
        if self.dial is not None:
            self.dial.cancel()
        if self._transport is not None:
            self._transport.abort()
