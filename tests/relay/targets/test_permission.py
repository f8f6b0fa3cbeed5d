"""Tests of relay.targets.permission: what policies permit is dialled, and nothing else."""

import asyncio
from typing import Any
from unittest import IsolatedAsyncioTestCase, mock

from relay.config.target_policy import TargetPolicy
from relay.config.targets import Target
from relay.network import racing
from relay.network.names import _Answer
from relay.targets.dialing import Dialer, DialFailed
from tests.relay.targets.test_dialing import Client, found, listening


class PolicyTests(IsolatedAsyncioTestCase):
    """What a policy does not permit is never dialled: sockets are counted, not only results."""

    async def asyncSetUp(self) -> None:
        self.dialer = Dialer(timeout=2)
        self.port = self.enterContext(listening())
        self.dialled: list[tuple[str, int]] = []
        real = racing._begin

        def begin(address: Any, port: int) -> Any:
            self.dialled.append((address[1], port))
            return real(address, port)

        self.enterContext(mock.patch("relay.network.racing._begin", begin))

    def resolve(self, *answers: tuple[str, ...]) -> Any:
        """Let names resolve to these addresses; each time that is asked, to the next."""
        loop = asyncio.get_running_loop()
        return self.enterContext(mock.patch.object(loop, "getaddrinfo", side_effect=[found(*each) for each in answers]))

    async def connect(self, *targets: Target, policies: tuple[TargetPolicy, ...] = (TargetPolicy(),)) -> Target:
        client = Client()
        used = await self.dialer.connect(targets, client, None, policies)
        assert client.transport is not None
        client.transport.abort()  # type: ignore[attr-defined]
        return used

    async def refused(self, *targets: Target, policies: tuple[TargetPolicy, ...] = (TargetPolicy(),)) -> str:
        with self.assertRaises(DialFailed) as caught:
            await self.connect(*targets, policies=policies)
        with self.assertRaises(DialFailed):
            await self.dialer.udp_socket(targets, None, policies)
        self.assertEqual(self.dialled, [])
        return str(caught.exception)

    async def test_addresses_in_every_spelling(self) -> None:
        hosts = ("127.0.0.1", "0.0.0.0", "::", "::1", "::ffff:127.0.0.1", "127.1", "0x7f.1", "2130706433", "0177.0.0.1")
        for host in (*hosts, "localhost", "LOCALHOST"):
            self.assertRegex(await self.refused(Target("tcp", host=host, port=self.port)), "relay's own machine", host)

    async def test_a_link_local_address_with_its_zone(self) -> None:
        self.assertRegex(await self.refused(Target("tcp", host="fe80::1%lo", port=self.port)), "a link-local address")

    async def test_a_name_is_judged_by_its_addresses(self) -> None:
        self.resolve(("127.0.0.1", "::1", "::ffff:169.254.169.254"))
        problem = await self.refused(Target("tcp", host="rebind.example", port=self.port))
        self.assertRegex(
            problem, "^127.0.0.1 is the relay's own machine, .* have an operator allow the tenant 127.0.0.1$"
        )

    async def test_of_several_addresses_the_refused_are_left_out(self) -> None:
        self.resolve(("::1", "169.254.169.254", "127.0.0.1", "127.0.0.2"))
        policy = TargetPolicy(("127.0.0.1/32",))
        target = Target("tcp", host="several.example", port=self.port)
        for _ in range(2):
            self.assertEqual(await self.connect(target, policies=(policy,)), target)
        sock, _ = await self.dialer.udp_socket((target,), None, (policy,))
        with sock:
            self.assertEqual(sock.getpeername()[0], "127.0.0.1")
        self.assertEqual(self.dialled, [("127.0.0.1", self.port)] * 2)

    async def test_a_changed_answer_is_checked_anew_and_what_was_checked_is_dialled(self) -> None:
        resolver = self.resolve(("127.0.0.2",), ("127.0.0.1",))
        policy = TargetPolicy(("127.0.0.2/32",))
        target = Target("tcp", host="rebind.example", port=self.port)
        with listening("127.0.0.2", self.port):
            await self.connect(target, policies=(policy,))
        self.assertEqual((self.dialled, resolver.call_count), ([("127.0.0.2", self.port)], 1))
        self.dialled.clear()
        self.dialer.names._resolved["rebind.example"] = _Answer([], 0.0, 0.0)  # the addresses' time is over
        await self.refused(target, policies=(policy,))
        self.assertEqual(resolver.call_count, 2)

    async def test_all_policies_must_permit(self) -> None:
        target = Target("tcp", host="127.0.0.1", port=self.port)
        wide, narrow = TargetPolicy(("127.0.0.0/8",)), TargetPolicy(("127.0.0.2/32",), whose="site")
        self.assertRegex(await self.refused(target, policies=(wide, narrow)), "the site's policy")
        await self.connect(target, policies=(wide, wide))

    async def test_ports(self) -> None:
        policy = TargetPolicy(("127.0.0.1/32",), ((1, 9),))
        problem = await self.refused(Target("tcp", host="127.0.0.1", port=self.port), policies=(policy,))
        self.assertRegex(problem, f"^port {self.port} is not among 1-9, ")

    async def test_unix_sockets(self) -> None:
        for path in ("/run/app.sock", "\0abstract"):
            with mock.patch("relay.targets.dialing.open_unix") as opened:
                self.assertRegex(await self.refused(Target("unix", path=path)), "Unix socket")
            opened.assert_not_called()
        with self.assertRaisesRegex(DialFailed, "No such file"):
            await self.connect(Target("unix", path="/nowhere"), policies=(TargetPolicy(unix=True),))

    async def test_of_several_targets_the_next_is_tried_and_none_is_blamed(self) -> None:
        refused = Target("tcp", host="127.0.0.1", port=self.port)
        allowed = Target("tcp", host="127.0.0.2", port=self.port)
        policy = TargetPolicy(("127.0.0.2/32",))
        with listening("127.0.0.2", self.port):
            self.assertEqual(await self.connect(refused, allowed, policies=(policy,)), allowed)
        self.assertFalse(self.dialer.failed_lately(refused))
        self.dialled.clear()
        with self.assertRaisesRegex(
            DialFailed, "^127.0.0.1:.*relay's own machine.*; 127.0.0.2:.*: Connection refused$"
        ):
            await self.connect(refused, allowed, policies=(TargetPolicy(("127.0.0.2/32", "usual")),))

    async def test_probes(self) -> None:
        target = Target("tcp", host="localhost", port=self.port)
        with self.assertRaisesRegex(OSError, "relay's own machine"):
            await self.dialer.probe(target, 2, (TargetPolicy(),))
        self.assertEqual(self.dialled, [])
        await self.dialer.probe(target, 2)
