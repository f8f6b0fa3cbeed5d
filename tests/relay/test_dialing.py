"""Tests of relay.dialing."""

import asyncio
import socket
import tempfile
from pathlib import Path
from typing import Any
from unittest import IsolatedAsyncioTestCase, mock

from relay.dialing import Dialer
from relay.targets import Target

WAIT = 10


class Client(asyncio.Protocol):
    def __init__(self) -> None:
        self.transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport


class Served(asyncio.Protocol):
    def __init__(self, accepted: list["Served"]) -> None:
        self.accepted = accepted

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.accepted.append(self)


def found(*addresses: str) -> list[Any]:
    """What getaddrinfo answers."""
    return [
        (socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0))
        for address in addresses
    ]


class DialerTests(IsolatedAsyncioTestCase):
    async def asyncSetUp(self) -> None:
        self.accepted: list[Served] = []
        self.dialled = 0
        server = await asyncio.get_running_loop().create_server(lambda: Served(self.accepted), "127.0.0.1", 0)
        self.addAsyncCleanup(server.wait_closed)
        self.addCleanup(server.close)
        self.port = server.sockets[0].getsockname()[1]
        self.dialer = Dialer(timeout=2)

    async def dial(self, target: Target) -> Client:
        client = Client()
        async with asyncio.timeout(WAIT):
            await self.dialer.connect(target, client)
            self.dialled += 1
            while len(self.accepted) < self.dialled:
                await asyncio.sleep(0)
        assert isinstance(client.transport, asyncio.Transport)
        self.addCleanup(client.transport.abort)
        return client

    def resolve(self, *addresses: str, **options: Any) -> Any:
        loop = asyncio.get_running_loop()
        patcher = mock.patch.object(loop, "getaddrinfo", **(options or {"return_value": found(*addresses)}))
        self.addCleanup(patcher.stop)
        return patcher.start()

    async def test_an_address_asks_no_resolver(self) -> None:
        resolver = self.resolve("192.0.2.1")
        client = await self.dial(Target("tcp", host="127.0.0.1", port=self.port))
        assert isinstance(client.transport, asyncio.Transport)
        sock = client.transport.get_extra_info("socket")
        self.assertTrue(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        resolver.assert_not_called()

    async def test_a_name(self) -> None:
        await self.dial(Target("tcp", host="localhost", port=self.port))

    async def test_a_unix_socket(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            path = str(Path(directory) / "s")
            server = await asyncio.get_running_loop().create_unix_server(lambda: Served(self.accepted), path)
            try:
                await self.dial(Target("unix", path=path))
            finally:
                server.close()
        with self.assertRaises(OSError):
            await self.dial(Target("unix", path="/nowhere/at/all"))

    async def test_a_refused_dial(self) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            with self.assertRaises(ConnectionRefusedError):
                await self.dial(Target("tcp", host="127.0.0.1", port=unused.getsockname()[1]))

    async def test_an_answer_that_never_comes(self) -> None:
        full = socket.socket()
        self.addCleanup(full.close)
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        held = []
        for _ in range(4):  # fill the backlog: the next SYN is dropped
            sock = socket.socket()
            self.addCleanup(sock.close)
            sock.setblocking(False)
            sock.connect_ex(full.getsockname())
            held.append(sock)
        self.dialer.timeout = 0.2
        with self.assertRaises(TimeoutError):
            await self.dial(Target("tcp", host="127.0.0.1", port=full.getsockname()[1]))

    async def test_the_next_address_is_tried_and_remembered(self) -> None:
        self.resolve("::1", "127.0.0.1")
        target = Target("tcp", host="both.example", port=self.port)
        await self.dial(target)
        self.assertEqual([address for _, address in await self.dialer._resolve("both.example")], ["127.0.0.1", "::1"])
        await asyncio.gather(*(self.dial(target) for _ in range(5)))
        self.assertEqual([address for _, address in await self.dialer._resolve("both.example")], ["127.0.0.1", "::1"])

    async def test_concurrent_first_dials_all_arrive(self) -> None:
        self.resolve("::1", "127.0.0.1")
        await asyncio.gather(*(self.dial(Target("tcp", host="both.example", port=self.port)) for _ in range(20)))
        self.assertEqual((await self.dialer._resolve("both.example"))[0][1], "127.0.0.1")

    async def test_a_kernel_without_a_family(self) -> None:
        self.resolve("::1", "127.0.0.1")
        real = socket.socket

        def no_ipv6(family: int, *args: Any, **options: Any) -> socket.socket:
            if family == socket.AF_INET6:
                raise OSError(97, "Address family not supported by protocol")
            return real(family, *args, **options)

        with mock.patch("relay.dialing.socket.socket", side_effect=no_ipv6):
            await self.dial(Target("tcp", host="both.example", port=self.port))

    async def test_a_burst_asks_the_resolver_once(self) -> None:
        resolver = self.resolve("127.0.0.1")
        target = Target("tcp", host="app.example", port=self.port)
        await asyncio.gather(*(self.dial(target) for _ in range(20)))
        await self.dial(target)
        self.assertEqual(resolver.call_count, 1)

    async def test_a_dead_name_holds_one_thread_and_fails_every_dial(self) -> None:
        release = asyncio.Event()

        async def hang(*args: Any, **options: Any) -> Any:
            await release.wait()
            raise socket.gaierror(socket.EAI_AGAIN, "try again")

        resolver = self.resolve(side_effect=hang)
        self.dialer.timeout = 0.1
        target = Target("tcp", host="dead.example", port=1)
        results = await asyncio.gather(*(self.dial(target) for _ in range(10)), return_exceptions=True)
        self.assertEqual({type(result) for result in results}, {TimeoutError})
        self.assertEqual(resolver.call_count, 1)
        release.set()
        self.dialer.timeout = 2
        with self.assertRaises(OSError):
            await self.dial(target)
        async with asyncio.timeout(WAIT):
            while self.dialer._lookups:
                await asyncio.sleep(0)

    async def test_failures_are_not_remembered(self) -> None:
        resolver = self.resolve(side_effect=[socket.gaierror(socket.EAI_NONAME, "unknown"), found("127.0.0.1")])
        target = Target("tcp", host="new.example", port=self.port)
        with self.assertRaises(OSError):
            await self.dial(target)
        await self.dial(target)
        self.assertEqual(resolver.call_count, 2)

    async def test_a_name_that_can_not_be_looked_up(self) -> None:
        for host in ("a" * 70 + ".example", "a\0b"):
            with self.assertRaises(OSError):
                await self.dial(Target("tcp", host=host, port=1))

    async def test_what_is_remembered_is_bounded(self) -> None:
        self.resolve("127.0.0.1")
        self.dialer._resolved = {f"host-{number}.example": (0.0, []) for number in range(4096)}
        await self.dialer._resolve("one-more.example")
        self.assertLessEqual(len(self.dialer._resolved), 4096)
        self.assertIn("one-more.example", self.dialer._resolved)

    async def test_udp(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as echo:
            echo.bind(("127.0.0.1", 0))
            self.resolve("::1", "127.0.0.1")
            sock = await self.dialer.udp_socket(Target("tcp", host="both.example", port=echo.getsockname()[1]))
            with sock:
                self.assertEqual(sock.getpeername(), echo.getsockname())
                self.assertFalse(sock.getblocking())
        with self.assertRaisesRegex(OSError, "Unix"):
            await self.dialer.udp_socket(Target("unix", path="/run/x"))
