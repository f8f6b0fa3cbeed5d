"""Public UDP ports: a flow per user address, one datagram per message (docs/protocol.md, "UDP")."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Final, cast

from relay.devnode.stream import NodeStream
from relay.devnode.user_stream import address_text
from relay.protocol.frames import MAX_PAYLOAD
from relay.protocol.messages import Connect

if TYPE_CHECKING:
    from relay.devnode.node import DevNode

Address = tuple[str, int]

SHORTEST_IDLE: Final = 5
LONGEST_IDLE: Final = 300
"""Seconds: what the claims may say of a flow's idle time."""


class UdpPort(asyncio.DatagramProtocol):
    """One public UDP port, at a bound socket."""

    def __init__(self, node: DevNode, port: int, socket: socket.socket) -> None:
        self.node = node
        self.socket = socket
        self.port = port
        self.flows: dict[Address, UdpFlow] = {}
        self.transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)  # uvloop's is none by inheritance

    def datagram_received(self, data: bytes, addr: Address) -> None:
        flow = self.flows.get(addr)
        if flow is None:
            flow = self._open(addr)
            if flow is None:
                return
        flow.forward(data)

    def send(self, datagram: bytes, address: Address) -> None:
        """Send a datagram to a user; it is dropped where the socket takes nothing."""
        if datagram and self.transport is not None:
            self.transport.sendto(datagram, address)
        elif not datagram:
            # asyncio before 3.13 leaves empty datagrams out.
            with contextlib.suppress(OSError):
                self.socket.sendto(b"", address)

    def close(self) -> None:
        """Forget all flows and close the port."""
        for flow in list(self.flows.values()):
            flow.end(notify=False)
        if self.transport is not None:
            self.transport.close()

    def _open(self, address: Address) -> UdpFlow | None:
        session = self.node.pool.by_port("udp", self.port)
        if session is None:
            self.node.counts.no_route += 1
            self.node.counts.datagrams_dropped += 1
            return None
        timeout = next((r.flow_idle_timeout for r in session.claims.udp_routes if r.port == self.port), None)
        clamped = min(max(timeout, SHORTEST_IDLE), LONGEST_IDLE) if timeout else self.node.options.udp_idle_timeout
        flow = UdpFlow(self, address, clamped)
        flow.session = session
        flow.hostname = f"udp:{self.port}"
        message = Connect(
            flow.stream_id,
            hostname=flow.hostname,
            conn_port=self.port,
            client_ip=address_text(address),
            transport="udp",
        )
        if not session.open(flow, message):
            session.counters.users_killed += 1
            flow.end(notify=False)
            return None
        self.flows[address] = flow
        return flow


class UdpFlow(NodeStream):
    """One user address at a public UDP port."""

    def __init__(self, port: UdpPort, address: Address, idle_timeout: float) -> None:
        super().__init__(port.node)
        self.port = port
        self.address = address
        self.idle_timeout = idle_timeout
        self._loop = asyncio.get_running_loop()
        self._last_activity = self._loop.time()
        self._timer = self._loop.call_later(idle_timeout, self._check_idle)

    def forward(self, datagram: bytes) -> None:
        """Send a datagram to the client; without credit it is dropped, and a full lane ends the flow."""
        self._last_activity = self._loop.time()
        if not self.readable or len(datagram) > MAX_PAYLOAD:
            self.node.counts.datagrams_dropped += 1
        elif not self.send(datagram):
            assert self.session is not None
            self.session.counters.users_killed += 1
            self.end(notify=True)

    def deliver(self, payload: bytes) -> None:
        self._last_activity = self._loop.time()
        self.count_arrival()
        self.port.send(payload, self.address)
        self.count_taken()

    def finish(self) -> None:
        self.end(notify=False)

    def cut(self) -> None:
        self.end(notify=False)

    def window_changed(self) -> None:
        pass  # `forward` looks for itself

    def end(self, *, notify: bool) -> None:
        """Forget the flow; the next datagram of the user opens a new one."""
        self._timer.cancel()
        if self.port.flows.get(self.address) is self:
            del self.port.flows[self.address]
        self.leave(notify=notify)

    def _check_idle(self) -> None:
        left = self._last_activity + self.idle_timeout - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._check_idle)
        else:
            self.end(notify=True)
