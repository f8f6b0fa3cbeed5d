"""Tests of relay.network.racing: which address of a name wins."""

import asyncio
import socket
from typing import Any
from unittest import TestCase, mock

from relay.config.targets import Target
from relay.network import racing
from relay.network.names import Names, _Answer
from relay.targets.dialing import Dialer, DialFailed
from tests.relay.targets.test_dialing import WAIT, Client, listening, silent
from tests.support.relays import Leaks, on_both_loops, quick
from tests.support.waiting import cancelled_after

begin = racing._begin


def begin_late(address: Any, port: int) -> Any:
    """Begin to connect; the refusal of 127.0.0.9 comes as an answer, not at once."""
    if address[1] != "127.0.0.9":
        return begin(address, port)
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    sock.connect_ex((address[1], port))
    return sock, True


class RaceTests(TestCase):
    """Names with several addresses. Each test runs on uvloop and on asyncio."""

    async def _connect(self, dialer: Dialer, addresses: list[str], port: int, timeout: float = 5) -> str:
        """Return the address that a name with these addresses was connected to."""
        client = Client()
        with mock.patch.object(Names, "_look_up", self._look_up(addresses)):
            await dialer.connect((Target("tcp", host="app.example", port=port),), client, timeout)
        assert client.transport is not None
        address: str = client.transport.get_extra_info("peername")[0]
        client.transport.abort()  # type: ignore[attr-defined]
        return address

    def _look_up(self, addresses: list[str]) -> Any:
        async def look_up(names: Names, host: str) -> Any:
            found_ = [(socket.AF_INET6 if ":" in address else socket.AF_INET, address) for address in addresses]
            until = asyncio.get_running_loop().time() + 60
            names._resolved[host] = _Answer(found_, until, until)
            return found_

        return look_up

    @on_both_loops
    async def test_a_silent_address_does_not_hold_up_the_next_and_loses_its_place(self) -> None:
        leaks = Leaks()
        with silent("::1") as port, listening(port=port):
            dialer = Dialer(timings=quick(stagger=0.05))
            self.assertEqual(await self._connect(dialer, ["::1", "127.0.0.1"], port), "127.0.0.1")
            with mock.patch("relay.network.racing.race", wraps=racing.race) as race:
                self.assertEqual(await self._connect(dialer, [], port), "127.0.0.1")
                self.assertEqual(race.call_args.args[0][0][1], "127.0.0.1")
        await leaks.check()

    @on_both_loops
    async def test_the_first_address_wins_where_it_answers_late(self) -> None:
        """Both are under way; the slow one answers first after all, and the other is closed."""
        leaks = Leaks()
        begun: list[socket.socket] = []
        finished = asyncio.Event()
        loop = asyncio.get_running_loop()

        def pending(address: Any, port: int) -> Any:
            sock, _ = begin(address, port)
            begun.append(sock)
            if len(begun) == 2:
                finished.set()
            return sock, True

        def answered(sock: socket.socket) -> asyncio.Future[None]:
            answer: asyncio.Future[None] = loop.create_future()
            if sock is begun[0]:
                waiter = asyncio.ensure_future(finished.wait())
                waiter.add_done_callback(lambda _: answer.done() or answer.set_result(None))
            return answer

        with (
            mock.patch("relay.network.racing._begin", pending),
            mock.patch("relay.network.racing._answered", answered),
        ):
            with listening() as port, listening("127.0.0.2", port):
                dialer = Dialer(timings=quick(stagger=0.01))
                self.assertEqual(await self._connect(dialer, ["127.0.0.1", "127.0.0.2"], port), "127.0.0.1")
                self.assertEqual([sock.fileno() for sock in begun][1], -1)
        await leaks.check()

    @on_both_loops
    async def test_tcp_asks_after_silence_whether_the_other_side_is_there(self) -> None:
        with listening() as port:
            for seconds, expected in ((15, [1, 15, 15, 9]), (0, None)):
                client = Client()
                await Dialer(timings=quick(keepalive=seconds)).connect((Target("tcp", "127.0.0.1", port),), client)
                assert client.transport is not None
                sock = client.transport.get_extra_info("socket")
                options = [sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)]
                for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT):
                    options.append(sock.getsockopt(socket.IPPROTO_TCP, option))
                client.transport.abort()  # type: ignore[attr-defined]
                self.assertEqual(options if seconds else options[0], expected or 0)

    @on_both_loops
    async def test_a_refusing_address_starts_the_next_at_once(self) -> None:
        with listening() as port:
            dialer = Dialer(timings=quick(stagger=60.0))
            self.assertEqual(await self._connect(dialer, ["127.0.0.9", "127.0.0.1"], port), "127.0.0.1")

    @on_both_loops
    async def test_a_refusal_that_comes_late_starts_the_next_at_once(self) -> None:
        with mock.patch("relay.network.racing._begin", begin_late):
            with listening() as port:
                dialer = Dialer(timings=quick(stagger=60.0))
                self.assertEqual(await self._connect(dialer, ["127.0.0.9", "127.0.0.1"], port), "127.0.0.1")

    @on_both_loops
    async def test_a_refusal_starts_the_next_while_an_earlier_one_is_still_silent(self) -> None:
        waits = 0
        real_wait = asyncio.wait

        async def wait(answers: Any, *, timeout: float, return_when: str) -> Any:
            """The first wait is over at once, no other ends by its time."""
            nonlocal waits
            waits += 1
            return (set(), set(answers)) if waits == 1 else await real_wait(answers, return_when=return_when)

        with mock.patch("relay.network.racing._begin", begin_late), mock.patch("asyncio.wait", wait):
            with silent() as port, listening("127.0.0.2", port):
                async with asyncio.timeout(WAIT):
                    addresses = ["127.0.0.1", "127.0.0.9", "127.0.0.2"]
                    self.assertEqual(await self._connect(Dialer(), addresses, port), "127.0.0.2")
        self.assertEqual(waits, 2)

    @on_both_loops
    async def test_no_address_answers_or_all_refuse(self) -> None:
        leaks = Leaks()
        with silent() as port:
            with self.assertRaisesRegex(DialFailed, "no answer in time"):
                await self._connect(Dialer(timings=quick(stagger=0.01)), ["127.0.0.1"] * 2 + ["127.0.0.9"], port, 0.2)
        with self.assertRaisesRegex(DialFailed, "refused"):
            await self._connect(Dialer(), ["127.0.0.8", "127.0.0.9"], 9)
        await leaks.check()

    @on_both_loops
    async def test_a_cancelled_dial_leaves_nothing(self) -> None:
        leaks = Leaks()
        with silent() as port:
            for addresses in (["127.0.0.1", "127.0.0.1"], ["127.0.0.1"]):
                for steps in range(1, 12):
                    dialer = Dialer(timings=quick(stagger=0.0))
                    dial = await cancelled_after(steps, self._connect(dialer, addresses, port))
                    self.assertTrue(dial.cancelled())
        with listening() as port:
            for steps in range(12):
                await cancelled_after(steps, self._connect(Dialer(), ["127.0.0.1"], port))
        await leaks.check()
