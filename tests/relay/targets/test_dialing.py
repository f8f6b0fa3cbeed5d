"""Tests of relay.targets.dialing."""

import asyncio
import contextlib
import errno
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import IsolatedAsyncioTestCase, TestCase, mock

from relay.config.targets import Target, parse_targets
from relay.network.names import _Answer
from relay.targets.dialing import Dialer, DialFailed, words_of
from tests.support.relays import Leaks, on_both_loops, quick

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
            self.assertEqual(await self.dialer.connect((target,), client), target)
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
        with self.assertRaisesRegex(DialFailed, "^No such file or directory$"):
            await self.dial(Target("unix", path="/nowhere/at/all"))

    async def test_a_refused_dial(self) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            with self.assertRaisesRegex(DialFailed, "^Connection refused$"):
                await self.dial(Target("tcp", host="127.0.0.1", port=unused.getsockname()[1]))

    async def test_an_answer_that_never_comes(self) -> None:
        self.dialer.timeout = 0.2
        with silent() as port:
            with self.assertRaisesRegex(DialFailed, "^no answer in time$"):
                await self.dial(Target("tcp", host="127.0.0.1", port=port))

    async def test_the_next_address_is_tried_and_remembered(self) -> None:
        self.resolve("::1", "127.0.0.1")
        target = Target("tcp", host="both.example", port=self.port)
        await self.dial(target)
        self.assertEqual(await self.order("both.example"), ["127.0.0.1", "::1"])
        await asyncio.gather(*(self.dial(target) for _ in range(5)))
        self.assertEqual(await self.order("both.example"), ["127.0.0.1", "::1"])

    async def order(self, host: str) -> list[str]:
        """The addresses of a name, as they are tried."""
        return [address for _, address in await self.dialer.names.resolve(host)]

    async def test_concurrent_first_dials_all_arrive(self) -> None:
        self.resolve("::1", "127.0.0.1")
        await asyncio.gather(*(self.dial(Target("tcp", host="both.example", port=self.port)) for _ in range(20)))
        self.assertEqual((await self.dialer.names.resolve("both.example"))[0][1], "127.0.0.1")

    async def test_a_kernel_without_a_family(self) -> None:
        self.resolve("::1", "127.0.0.1")
        real = socket.socket

        def no_ipv6(family: int, *args: Any, **options: Any) -> socket.socket:
            if family == socket.AF_INET6:
                raise OSError(97, "Address family not supported by protocol")
            return real(family, *args, **options)

        with mock.patch("relay.network.racing.socket.socket", side_effect=no_ipv6):
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
        problem = "the resolver gave no answer for dead.example in time"
        self.assertEqual({str(result) for result in results}, {problem})
        self.assertEqual(resolver.call_count, 1)
        release.set()
        self.dialer.timeout = 2
        with self.assertRaises(OSError):
            await self.dial(target)
        async with asyncio.timeout(WAIT):
            while self.dialer.names._lookups:
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
        self.dialer.names._resolved = {f"host-{number}.example": _Answer([], 0.0, 0.0) for number in range(4096)}
        await self.dialer.names.resolve("one-more.example")
        self.assertLessEqual(len(self.dialer.names._resolved), 4096)
        self.assertIn("one-more.example", self.dialer.names._resolved)

    async def test_udp(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as echo:
            echo.bind(("127.0.0.1", 0))
            self.resolve("::1", "127.0.0.1")
            target = Target("tcp", host="both.example", port=echo.getsockname()[1])
            unusable = Target("unix", path="/run/x")
            sock, used = await self.dialer.udp_socket((unusable, target))
            with sock:
                self.assertEqual((used, sock.getpeername()), (target, echo.getsockname()))
                self.assertFalse(sock.getblocking())
        with self.assertRaisesRegex(DialFailed, "Unix"):
            await self.dialer.udp_socket((unusable,))


@contextlib.contextmanager
def silent(host: str = "127.0.0.1", port: int = 0) -> Iterator[int]:
    """A port that neither answers nor refuses: its backlog is full, and the next SYN is dropped."""
    with contextlib.ExitStack() as stack:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        full = stack.enter_context(socket.socket(family))
        full.bind((host, port))
        full.listen(0)
        for _ in range(4):
            sock = stack.enter_context(socket.socket(family))
            sock.setblocking(False)
            sock.connect_ex(full.getsockname())
        yield full.getsockname()[1]


@contextlib.contextmanager
def listening(host: str = "127.0.0.1", port: int = 0) -> Iterator[int]:
    """A port that takes connections; nobody accepts them."""
    with socket.socket() as server:
        server.bind((host, port))
        server.listen(100)
        yield server.getsockname()[1]


def refusing(count: int = 1) -> tuple[Target, ...]:
    """Targets that refuse: nobody listens at the lowest ports of 127.0.0.77 and its neighbours."""
    return tuple(Target("tcp", host=f"127.0.0.{77 + number}", port=9) for number in range(count))


class SeveralTargetsTests(TestCase):
    @on_both_loops
    async def test_the_next_target_is_tried_and_the_one_that_answered_told(self) -> None:
        with listening() as port:
            good = Target("tcp", host="127.0.0.1", port=port)
            client = Client()
            self.assertEqual(await Dialer().connect((*refusing(2), good), client), good)
            assert client.transport is not None
            client.transport.abort()  # type: ignore[attr-defined]

    @on_both_loops
    async def test_a_silent_target_leaves_its_share_to_the_others(self) -> None:
        with silent() as port, listening() as good_port:
            mute, good = (Target("tcp", host="127.0.0.1", port=number) for number in (port, good_port))
            client = Client()
            self.assertEqual(await Dialer().connect((mute, *refusing(), mute, good), client, 0.8), good)
            assert client.transport is not None
            client.transport.abort()  # type: ignore[attr-defined]

    @on_both_loops
    async def test_the_time_is_shared_fairly_and_what_one_leaves_goes_to_the_others(self) -> None:
        shares: list[float] = []

        async def refuse(target: Target, timeout: float, policies: Any) -> Any:
            shares.append(timeout)
            raise ConnectionRefusedError

        dialer = Dialer()
        with mock.patch.object(dialer, "_open", refuse), self.assertRaises(DialFailed):
            await dialer.connect(refusing(4), Client(), 1200)
        for share, expected in zip(shares, (300, 400, 600, 1200), strict=True):
            self.assertAlmostEqual(share, expected, delta=30)

    @on_both_loops
    async def test_a_failure_names_every_target(self) -> None:
        with silent() as port:
            targets = parse_targets(f"127.0.0.77:9,127.0.0.1:{port},unix:/nowhere")
            with self.assertRaises(DialFailed) as raised:
                await Dialer().connect(targets, Client(), 0.2)
        self.assertEqual(
            str(raised.exception),
            f"127.0.0.77:9: Connection refused; 127.0.0.1:{port}: no answer in time; "
            "unix:/nowhere: No such file or directory",
        )
        self.assertEqual([target for target, _ in raised.exception.failures], list(targets))

    @on_both_loops
    async def test_a_target_that_failed_goes_last_until_it_answers_or_a_moment_is_over(self) -> None:
        dialer = Dialer()
        with listening() as port:
            bad, good = *refusing(), Target("tcp", host="127.0.0.1", port=port)
            client = Client()
            await dialer.connect((bad, good), client)
            self.assertTrue(dialer.failed_lately(bad))
            self.assertEqual(list(dialer.failed_last((bad, good))), [good, bad])
            dialer._failed[bad] -= quick().failed_for  # the moment is over
            self.assertFalse(dialer.failed_lately(bad))
            self.assertEqual(list(dialer.failed_last((bad, good))), [bad, good])
            dialer._note_failed(good)
            client.transport.abort()  # type: ignore[union-attr]
            await dialer.connect((good,), client)
            self.assertFalse(dialer.failed_lately(good))
            client.transport.abort()  # type: ignore[union-attr]

    @on_both_loops
    async def test_failures_that_are_remembered_are_bounded(self) -> None:
        dialer = Dialer()
        with mock.patch("relay.targets.dialing.REMEMBERED", 3):
            for target in refusing(10):
                dialer._note_failed(target)
        self.assertLessEqual(len(dialer._failed), 3)

    @on_both_loops
    async def test_a_unix_socket_with_a_full_backlog_is_waited_for(self) -> None:
        leaks = Leaks()
        with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as server:
            target = Target("unix", path=f"{directory}/s")
            server.bind(target.path)
            server.listen(0)
            with socket.socket(socket.AF_UNIX) as first:
                first.connect(target.path)
                with self.assertRaisesRegex(DialFailed, "no answer in time"):
                    await Dialer().connect((target,), Client(), 0.1)
                client = Client()
                dial = asyncio.create_task(Dialer().connect((target,), client, 10))
                await asyncio.sleep(0)
                server.accept()[0].close()
                await dial
                client.transport.abort()  # type: ignore[union-attr]
        await leaks.check()

    @on_both_loops
    async def test_a_probe(self) -> None:
        leaks = Leaks()
        with listening() as port, silent() as mute:
            await Dialer().probe(Target("tcp", host="127.0.0.1", port=port), 5)
            with self.assertRaises(TimeoutError):
                await Dialer().probe(Target("tcp", host="127.0.0.1", port=mute), 0.05)
        with self.assertRaises(ConnectionRefusedError):
            await Dialer().probe(*refusing(), 5)
        await leaks.check()


class WordsTests(TestCase):
    def test_what_is_said_of_an_error(self) -> None:
        for error, words in (
            (TimeoutError(), "no answer in time"),
            (OSError(errno.ETIMEDOUT, "x"), "Connection timed out"),
            (OSError(errno.ECONNREFUSED, "Connect call failed ('127.0.0.1', 1)"), "Connection refused"),
            (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "Name or service not known"),
            (OSError("in words"), "in words"),
            (OSError(), "OSError"),
            (ValueError("other"), "other"),
        ):
            self.assertEqual(words_of(error), words)
