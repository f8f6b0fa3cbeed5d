import contextlib
import itertools
from collections.abc import AsyncIterator
from typing import Any
from unittest import IsolatedAsyncioTestCase, mock

import websockets
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

from relay.devnode import DevNode, NodeOptions, mint_token
from tests.relay.devnode.client import HOST, SECRET, RawClient, raw_client, session


class SessionTestCase(IsolatedAsyncioTestCase):
    async def node(self, **options: Any) -> DevNode:
        return await self.enterAsyncContext(DevNode(secret=SECRET, **options))


class AttestedHandshakeTests(SessionTestCase):
    async def test_handshake(self) -> None:
        node = await self.node()
        async with raw_client(node) as client:
            await client.websocket.send(mint_token(SECRET, [HOST]))
            challenge = await client.challenge()
            self.assertEqual(challenge.keys(), {"type", "nonce"})
            self.assertEqual(challenge["type"], "handshake_challenge")
            self.assertRegex(challenge["nonce"], r"^[A-Za-z0-9_-]{43}$")
            self.assertEqual(node.sessions, ())
            await client.websocket.send(mint_token(SECRET, [HOST], session_nonce=challenge["nonce"]))
            (up,) = await node.wait_for_sessions(1)
            self.assertEqual(up.hostnames, (HOST,))
        await node.wait_for_sessions(0)
        self.assertEqual(node.dead_sessions, ())

    async def test_refusal_says_why(self) -> None:
        node = await self.node()
        async with raw_client(node) as client:
            await client.websocket.send(mint_token(SECRET, [HOST], lifetime=-1))
            self.assertEqual(
                await client.closed(),
                (
                    1008,
                    "stage0 token validation failed: jwt validation failed: token has invalid claims: token is expired",
                ),
            )
        self.assertEqual(node.counters.refusals, 1)

    async def test_refusal_too_long_for_a_close_frame_is_an_abrupt_end(self) -> None:
        node = await self.node()
        for token in ("abc.def.ghi", mint_token(SECRET, [HOST], iss=None), mint_token(SECRET, [HOST], aud=None)):
            async with raw_client(node) as client:
                await client.websocket.send(token)
                self.assertEqual(await client.closed(), (1006, ""))

    async def test_binary_instead_of_a_token(self) -> None:
        node = await self.node()
        async with raw_client(node) as client:
            await client.websocket.send(b"\x02{}")
            self.assertEqual(await client.closed(), (1008, "expected text frame for stage0 token, got type 2"))

    async def test_wrong_nonce(self) -> None:
        node = await self.node()
        async with raw_client(node) as client:
            await client.websocket.send(mint_token(SECRET, [HOST]))
            nonce = (await client.challenge())["nonce"]
            await client.websocket.send(mint_token(SECRET, [HOST], session_nonce="old"))
            self.assertEqual(await client.closed(), (1008, f"session nonce mismatch: expected {nonce} got old"))

    async def test_attested_claims_must_equal_the_handshakes(self) -> None:
        node = await self.node()
        async with raw_client(node) as client:
            await client.websocket.send(mint_token(SECRET, [HOST]))
            nonce = (await client.challenge())["nonce"]
            await client.websocket.send(mint_token(SECRET, [HOST, "more.test"], session_nonce=nonce))
            code, reason = await client.closed()
            self.assertEqual(code, 1008)
            self.assertIn("differ", reason)

    async def test_handshake_max_age(self) -> None:
        node = await self.node()
        async with raw_client(node) as client:
            await client.websocket.send(mint_token(SECRET, [HOST], iat=1_700_000_000, handshake_max_age_seconds=5))
            code, reason = await client.closed()
            self.assertEqual(code, 1008)
            self.assertIn("too old", reason)

    async def test_the_node_waits_so_long_for_each_token(self) -> None:
        node = await self.node(token_wait=0.05)
        async with raw_client(node) as client:
            self.assertEqual((await client.closed())[0], 1008)
        async with raw_client(node) as client:
            await client.websocket.send(mint_token(SECRET, [HOST]))
            await client.challenge()
            self.assertEqual((await client.closed())[0], 1008)

    async def test_claimed_ports_are_those_that_the_node_has(self) -> None:
        node = await self.node(tcp_ports={53: 0})
        async with session(node, tcp_ports=[53]):
            pass
        async with raw_client(node) as client:
            await client.websocket.send(mint_token(SECRET, tcp_ports=[54]))
            self.assertEqual(await client.closed(), (1008, "stage0 token validation failed: tcp port 54 not allowed"))

    async def test_no_compression_and_no_other_path(self) -> None:
        node = await self.node(tls=False)
        async with raw_client(node, extensions=[ClientPerMessageDeflateFactory()]) as client:
            self.assertEqual(client.websocket.protocol.extensions, [])
        with self.assertRaises(websockets.InvalidStatus) as caught:
            async with websockets.connect(node.address.replace("/connect", "/other")):
                pass
        self.assertEqual(caught.exception.response.status_code, 404)


class TokenDialectTests(SessionTestCase):
    async def test_silence_is_consent(self) -> None:
        node = await self.node(dialect="token")
        async with raw_client(node) as client:
            await client.websocket.send(mint_token(SECRET, hostname=HOST, iss=None, aud=None))
            (up,) = await node.wait_for_sessions(1)
            self.assertEqual(up.hostnames, (HOST,))
            await client.websocket.close()
            self.assertEqual(await client.closed(), (1000, ""))

    async def test_refusal(self) -> None:
        node = await self.node(dialect="token")
        async with raw_client(node) as client:
            await client.websocket.send("abc.def.ghi")
            self.assertEqual(await client.closed(), (1006, ""))

    async def test_a_token_client_at_an_attesting_node_sees_a_challenge(self) -> None:
        node = await self.node()
        async with raw_client(node) as client:
            await client.websocket.send(mint_token(SECRET, [HOST], lifetime=3600))
            self.assertEqual((await client.challenge())["type"], "handshake_challenge")


class ReauthTests(SessionTestCase):
    @contextlib.asynccontextmanager
    async def challenged(self, node: DevNode, **claims: Any) -> AsyncIterator[tuple[RawClient, str]]:
        async with session(node, HOST, reauth_interval_seconds=3600, **claims) as client:
            node.challenge_all()
            challenge = await client.challenge()
            self.assertEqual(challenge["type"], "reauth_challenge")
            yield client, challenge["nonce"]

    async def test_it_comes_after_the_interval_and_again(self) -> None:
        node = await self.node()
        async with session(node, HOST, reauth_interval_seconds=0.02) as client:
            for _ in range(2):
                nonce = (await client.challenge())["nonce"]
                await client.websocket.send(
                    mint_token(SECRET, [HOST], session_nonce=nonce, reauth_interval_seconds=0.02)
                )
            await node.wait_until(lambda: node.counters.reauths == 2)
            self.assertEqual(len(node.sessions), 1)

    async def test_other_claims_drop_the_session(self) -> None:
        for change in ({"hostnames": [HOST, "b.test"]}, {"weight": 5}, {"outbound_allowed": True}):
            with self.subTest(change):
                node = await self.node()
                async with self.challenged(node, weight=2) as (client, nonce):
                    claims: dict[str, Any] = {"hostnames": [HOST], "weight": 2, "session_nonce": nonce, **change}
                    await client.websocket.send(mint_token(SECRET, **claims))
                    self.assertEqual((await client.closed())[0], 1008)
                await node.wait_for_sessions(0)

    async def test_no_weight_says_nothing(self) -> None:
        node = await self.node()
        async with self.challenged(node, weight=2) as (client, nonce):
            await client.websocket.send(mint_token(SECRET, [HOST], session_nonce=nonce))
            await node.wait_until(lambda: node.counters.reauths == 1)
            self.assertEqual(node.sessions[0].claims.weight, 2)

    async def test_wrong_nonce_drops_the_session(self) -> None:
        node = await self.node()
        async with self.challenged(node) as (client, _):
            await client.websocket.send(mint_token(SECRET, [HOST], session_nonce="other"))
            self.assertEqual((await client.closed())[0], 1008)

    async def test_no_answer_within_the_grace_drops_the_session(self) -> None:
        node = await self.node()
        async with self.challenged(node, reauth_grace_seconds=0.05) as (client, _):
            self.assertEqual((await client.closed())[0], 1008)

    async def test_a_new_secret_serves_from_the_next_token_on(self) -> None:
        node = await self.node()
        async with self.challenged(node) as (client, nonce):
            node.secret = SECRET + "-new"
            await client.websocket.send(mint_token(node.secret, [HOST], session_nonce=nonce))
            await node.wait_until(lambda: node.counters.reauths == 1)


class StatusTests(SessionTestCase):
    """The authorizer's status address, asked by a node with a secret of its own."""

    STATUS = "https://authorizer.example/status"

    @contextlib.asynccontextmanager
    async def answering(self, *up: bool, **claims: Any) -> AsyncIterator[tuple[DevNode, RawClient, mock.AsyncMock]]:
        """A session with a node that is told, in turn, whether the authorizer is up; then that it is not."""
        answers = mock.AsyncMock(side_effect=itertools.chain(up, itertools.repeat(False)))
        with mock.patch("relay.devnode.session.is_up", answers):
            node = await self.node(reauth_jitter=0.0, status_retry=0.001, maintenance_grace=5.0)
            claims = {"reauth_interval_seconds": 0.01, "authorizer_status_uri": self.STATUS, **claims}
            async with session(node, HOST, **claims) as client:
                yield node, client, answers

    async def test_it_puts_a_re_authentication_off(self) -> None:
        async with self.answering(False, False, True) as (node, client, answers):
            self.assertEqual((await client.challenge())["type"], "reauth_challenge")
            self.assertEqual(answers.await_count, 3)
            self.assertEqual(answers.await_args.args, (node.options, self.STATUS))

    async def test_as_long_as_the_claims_allow(self) -> None:
        async with self.answering(maintenance_grace_cap_seconds=0.02) as (_, client, answers):
            self.assertEqual((await client.challenge())["type"], "reauth_challenge")
            self.assertGreater(answers.await_count, 1)

    async def test_as_long_as_the_node_has_it_where_they_say_nothing(self) -> None:
        self.assertEqual(NodeOptions().maintenance_grace, 30 * 60)
        async with self.answering() as (node, client, answers):
            await node.wait_until(lambda: answers.await_count >= 5)
            with mock.patch.object(node.sessions[0]._loop, "time", lambda now=node.sessions[0]._loop.time: now() + 5):
                self.assertEqual((await client.challenge())["type"], "reauth_challenge")


class LivenessTests(SessionTestCase):
    async def test_the_node_pings(self) -> None:
        node = await self.node(ping_interval=0.02)
        async with session(node):
            # The library's client answers in the background.
            (up,) = node.sessions
            await node.wait_until(lambda: up.connection.pongs >= 3)

    async def test_silence_drops_the_session(self) -> None:
        node = await self.node(ping_interval=10, silence_limit=0.1)
        async with session(node) as client:
            await node.wait_for_sessions(0)
            self.assertEqual((await client.closed())[0], 1006)
        self.assertEqual(node.dead_sessions, ())

    async def test_a_message_over_the_limit_closes_the_session(self) -> None:
        node = await self.node()
        async with session(node) as client:
            await client.websocket.send(b"\x01" * 32_785)
            await client.websocket.send(b"\x01" * 32_786)
            self.assertEqual((await client.closed())[0], 1009)
        self.assertEqual(node.dead_sessions, ())

    async def test_an_unclean_loss_leaves_a_dead_session_for_a_while(self) -> None:
        node = await self.node(dead_session_linger=0.1)
        async with session(node) as client:
            client.websocket.transport.abort()
            await node.wait_for_sessions(0)
            self.assertEqual(len(node.dead_sessions), 1)
            self.assertIs(node.pool.by_hostname(HOST), node.dead_sessions[0])
            await node.wait_until(lambda: not node.dead_sessions)
            self.assertIsNone(node.pool.by_hostname(HOST))
