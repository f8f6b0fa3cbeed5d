"""Tests of relay.network_watch."""

from __future__ import annotations

import asyncio
import socket
from functools import partial
from typing import Any
from unittest import IsolatedAsyncioTestCase, mock

from django.test import SimpleTestCase
from hypothesis import given
from hypothesis import strategies as st

from relay import network_watch
from relay.network_watch import DELETED_LINK, HEADER, LINK, NEW_ADDRESS, NEW_LINK, RUNNING, Interfaces, watch_interfaces
from tests.support.namespaces import NetworkNamespace
from tests.support.waiting import async_wait_until


def link(kind: int, index: int, flags: int) -> bytes:
    """Return a message about an interface, as the kernel writes it."""
    body = LINK.pack(0, 1, index, flags, 0)
    return HEADER.pack(HEADER.size + len(body), kind, 0, 0, 0) + body


class InterfacesTests(SimpleTestCase):
    def test_up_is_what_was_down(self) -> None:
        interfaces = Interfaces()
        self.assertFalse(interfaces.came_up(link(NEW_LINK, 2, RUNNING)), "it may have run all the time")
        self.assertFalse(interfaces.came_up(link(NEW_LINK, 2, 0)))
        self.assertTrue(interfaces.came_up(link(NEW_LINK, 2, RUNNING)))
        self.assertFalse(interfaces.came_up(link(NEW_LINK, 2, RUNNING)), "it has been told")
        self.assertFalse(interfaces.came_up(link(DELETED_LINK, 2, RUNNING)))

    def test_several_messages_in_one_datagram(self) -> None:
        interfaces = Interfaces()
        self.assertTrue(interfaces.came_up(link(NEW_LINK, 2, 0) + link(NEW_LINK, 3, 0) + link(NEW_LINK, 2, RUNNING)))

    def test_a_new_address(self) -> None:
        self.assertTrue(Interfaces().came_up(HEADER.pack(HEADER.size, NEW_ADDRESS, 0, 0, 0)))

    @given(st.binary(max_size=200))
    def test_no_bytes_make_it_raise(self, data: bytes) -> None:
        Interfaces().came_up(data)
        Interfaces().came_up(link(NEW_LINK, 2, 0) + data)


class WatchTests(IsolatedAsyncioTestCase):
    async def test_without_the_kernel_nothing_is_noticed(self) -> None:
        with mock.patch.object(network_watch.socket, "socket", side_effect=OSError):
            with watch_interfaces(lambda: self.fail("nothing came up")):
                await asyncio.sleep(0)

    async def test_the_kernel_tells(self) -> None:
        seen: list[int] = []
        with NetworkNamespace() as network, self.opened_in(network):
            with watch_interfaces(lambda: seen.append(1)):
                network.run("ip", "address", "add", "127.77.0.1/32", "dev", "lo")
                await async_wait_until(lambda: seen, "the address is noticed")

    def opened_in(self, network: NetworkNamespace) -> mock._patch[Any]:
        return mock.patch.object(network_watch, "_open", partial(network.call, network_watch._open))

    async def test_what_comes_on_the_socket_is_told(self) -> None:
        kernel, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        ours.setblocking(False)
        self.addCleanup(kernel.close)
        seen: list[int] = []
        with mock.patch.object(network_watch, "_open", return_value=ours), watch_interfaces(lambda: seen.append(1)):
            kernel.send(link(NEW_LINK, 2, 0))
            kernel.send(link(NEW_LINK, 2, RUNNING))
            kernel.send(HEADER.pack(HEADER.size, NEW_ADDRESS, 0, 0, 0))
            await async_wait_until(lambda: seen, "the interface is noticed")
            self.assertEqual(len(seen), 1)
        self.assertEqual(ours.fileno(), -1, "it is closed afterwards")
