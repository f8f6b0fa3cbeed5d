"""Tests of relay.sessions.authenticator: re-authentication under load, floods of challenges, sources that fail."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace
from typing import Any
from unittest import mock

from django.test import SimpleTestCase

from relay import Claims
from relay.devnode import DevNode
from tests.relay.sessions.test_session import HEAD, config_of
from tests.support.pattern import pattern
from tests.support.relays import (
    CLAIMS,
    HOST,
    on_both_loops,
    presigned,
    recorded_logs,
    runner_of,
    running,
    session_of,
)
from tests.support.targets import EchoTarget
from tests.support.users import TcpUser
from tests.support.waiting import async_wait_until


class ReauthTests(SimpleTestCase):
    async def _steady_echo(self, node: DevNode, stop: asyncio.Event) -> tuple[str, str]:
        """Keep one stream busy; return the hashes of what was sent and received."""
        sent, got = hashlib.sha256(), hashlib.sha256()
        async with TcpUser(node.public_port()) as user:
            data = HEAD + pattern(300_000)
            while not stop.is_set():
                sending = asyncio.create_task(user.send(data))
                got.update(await user.receive(len(data), timeout=20))
                await sending
                sent.update(data)
        return sent.hexdigest(), got.hexdigest()

    @on_both_loops
    async def test_it_is_answered_under_load_with_the_claims_of_the_handshake(self) -> None:
        """Whatever is edited meanwhile: weight, hostnames, secret file, the kind of credential."""
        stop = asyncio.Event()
        async with EchoTarget() as target, running(target.address) as (node, relay):
            with recorded_logs():
                backend = relay.config.backends["app"]
                first = session_of(relay)
                load = [asyncio.create_task(self._steady_echo(node, stop)) for _ in range(4)]
                await async_wait_until(lambda: first.streams == 4, "the load")
                more = Claims(hostnames=("other.example.com", HOST))
                edits = [
                    replace(backend, claims=replace(CLAIMS, weight=7)),
                    replace(backend, claims=more),
                    replace(backend, attestation=replace(backend.attestation, token_ttl=60)),
                    replace(backend, credential=presigned()),
                    replace(backend, name="renamed"),
                ]
                for number, edit in enumerate(edits):
                    relay.apply(config_of(edit))
                    await asyncio.sleep(0)
                    before = first.core.counters.reauths
                    node.challenge_all()
                    await async_wait_until(lambda b=before: first.core.counters.reauths > b, f"re-auth {number}")
                    await async_wait_until(lambda: node.counters.reauths > 0, "its success")
                    # A challenge that comes before the last answer has been checked makes that answer a wrong one.
                    await async_wait_until(lambda: not any(each._reauth_nonce for each in node.sessions), "all answers")
                self.assertFalse(first.ended.done())
                self.assertEqual(first.streams, 4)
                stop.set()
                for sent, got in await asyncio.gather(*load):
                    self.assertEqual(sent, got)
                self.assertEqual(node.counters.streams_cut, 0)
                self.assertGreaterEqual(node.counters.reauths, len(edits))

    @on_both_loops
    async def test_a_flood_of_challenges_asks_for_few_tokens(self) -> None:
        """Else a node could have a program started for each of its messages. The newest is the one that is answered."""
        async with EchoTarget() as target, running(target.address) as (_, relay):
            session = session_of(relay)
            real = runner_of(relay).token_source
            asked: list[str] = []

            async def counting(stage: Any, nonce: str, claims: Any) -> str:
                asked.append(nonce)
                return await real(stage, nonce, claims)

            runner = runner_of(relay)
            with mock.patch.object(runner, "token_source", counting):
                for number in range(3_000):
                    session.text_received(f'{{"type":"reauth_challenge","nonce":"{number}"}}')
                    self.assertLess(len(session._tasks), 10)
                    if number % 500 == 0:
                        await asyncio.sleep(0)
                await async_wait_until(lambda: "2999" in asked, "the answer to the newest")
            self.assertLess(len(asked), 30)

    @on_both_loops
    async def test_a_failing_source_is_asked_again(self) -> None:
        async with EchoTarget() as target, running(target.address) as (node, relay):
            failures = iter([True, False])
            real = runner_of(relay).token_source

            async def shaky(*args: Any) -> str:
                from relay.tokens.issuer import TokenError

                if next(failures):
                    raise TokenError("not now")
                return await real(*args)

            runner = runner_of(relay)
            with recorded_logs() as logs, mock.patch.object(runner, "token_source", shaky):
                node.challenge_all()
                await async_wait_until(lambda: node.counters.reauths == 1, "the re-auth")
            self.assertIn("not now", logs.text())
