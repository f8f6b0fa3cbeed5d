"""Tests of relay.tokens.sources."""

import asyncio
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import IsolatedAsyncioTestCase, mock

import jwt
from django.test import SimpleTestCase
from hypothesis import given
from hypothesis import strategies as st

from relay.config import (
    AttestationOptions,
    BackendConfig,
    Claims,
    HmacSecret,
    HmacSecretFile,
    PresignedToken,
    TokenCommand,
    TokenProvider,
    TokenRequest,
)
from relay.errors import InvalidValue
from relay.protocol.events import Stage
from relay.protocol.handshake import Dialect
from relay.tokens import sources
from relay.tokens.issuer import TokenError
from relay.tokens.sources import dialect_of, session_claims, token_source
from tests.relay.tokens.samples import CLAIMS, KEY, backend, jwt_of, payload_of, signed


class SessionClaimsTests(SimpleTestCase):
    def test_session_claims(self) -> None:
        token = signed(hostnames=["B.example.", "a.example", "a.example"], tcp_ports=[80, 53])
        self.assertEqual(
            session_claims(backend(PresignedToken(token))),
            Claims(hostnames=("a.example", "b.example"), tcp_ports=(53, 80)),
        )
        self.assertEqual(session_claims(backend(HmacSecret(KEY))), CLAIMS.normalised())
        self.assertIs(dialect_of(backend(PresignedToken(token))), Dialect.TOKEN)
        self.assertIs(dialect_of(backend(HmacSecret(KEY))), Dialect.ATTESTED)
        with self.assertRaisesRegex(InvalidValue, "credential"):
            session_claims(backend(None))

    @given(st.lists(st.text(max_size=20), max_size=3))
    def test_session_claims_of_any_names(self, names: list[str]) -> None:
        try:
            session_claims(backend(PresignedToken(jwt_of({"hostnames": names}))))
        except InvalidValue:
            pass

    def test_expiry_note(self) -> None:
        for expires, note in ((1, "expired 1970-01-01 00:00:01 UTC"), (-(10**400), "expired 1970"), (4102444800, "")):
            found = sources.expiry_note(backend(PresignedToken(jwt_of({"exp": expires}))))
            self.assertIn(note, found)
            self.assertEqual(bool(found), bool(note))
        for credential in (HmacSecret(KEY), PresignedToken("a.b.c"), PresignedToken(jwt_of({})), None):
            self.assertEqual(sources.expiry_note(backend(credential)), "")


class SourceTests(IsolatedAsyncioTestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)

    async def get(self, config: BackendConfig, stage: Stage = Stage.HANDSHAKE, nonce: str = "") -> str:
        return await token_source(config)(stage, nonce, config.claims)

    async def test_presigned_is_sent_as_it_is(self) -> None:
        self.assertEqual(await self.get(backend(PresignedToken(" a.b.c\n"))), "a.b.c")

    async def test_hmac(self) -> None:
        token = await self.get(backend(HmacSecret(KEY)), Stage.ATTEST, "n1")
        self.assertEqual(payload_of(token)["session_nonce"], "n1")
        self.assertEqual(payload_of(token)["sub"], "edge-apps")

    async def test_a_key_that_can_not_sign(self) -> None:
        for secret, remedy in (("", "is empty: give"), ("lone \ud800 surrogate", "is not text: give")):
            with self.assertRaisesRegex(TokenError, remedy) as caught:
                await self.get(backend(HmacSecret(secret)))
            self.assertNotIn("lone", str(caught.exception))

    async def test_a_token_that_no_node_takes_is_named(self) -> None:
        claims = Claims(hostnames=tuple(f"host-{number:05}.example.com" for number in range(1200)))
        with self.assertRaisesRegex(TokenError, "spread the host names"):
            await token_source(backend(HmacSecret(KEY)))(Stage.HANDSHAKE, "", claims)

    async def test_a_secret_file_is_rotated_in_place(self) -> None:
        path = self.directory / "key"
        path.write_text("first-" * 8 + "\n")
        source = token_source(backend(HmacSecretFile(str(path))))
        for secret in ("first-" * 8, "second-" * 8):
            path.write_text(secret + "\n")
            token = await source(Stage.REAUTH, "n", CLAIMS)
            jwt.decode(token, secret, algorithms=["HS256"], audience="nexus")

    async def test_a_secret_file_that_can_not_serve(self) -> None:
        empty, binary, huge = (self.directory / name for name in ("empty", "binary", "huge"))
        empty.write_text("\n")
        binary.write_bytes(b"\xff\xff\x80" * 20)
        huge.write_text("k" * 100_000)
        for path, problem in (
            (self.directory / "missing", "No such file"),
            (self.directory, "directory"),
            (empty, "is empty"),
            (binary, "not text"),
            (huge, "not a key"),
            ("nul\0", "cannot read"),
            ("/dev/zero", "not a key"),
        ):
            with self.subTest(path), self.assertRaisesRegex(TokenError, problem) as caught:
                await self.get(backend(HmacSecretFile(str(path))))
            self.assertNotIn("kkk", str(caught.exception))

    async def test_handshake_tokens_are_cached_and_no_others(self) -> None:
        source = token_source(backend(HmacSecret(KEY), attestation=AttestationOptions(cache_handshake=20)))
        with mock.patch.object(sources, "mint", side_effect=sources.mint) as minted:
            first = await source(Stage.HANDSHAKE, "", CLAIMS)
            self.assertEqual(await source(Stage.HANDSHAKE, "", CLAIMS), first)
            self.assertEqual(minted.call_count, 1)
            await source(Stage.ATTEST, "n", CLAIMS)
            await source(Stage.REAUTH, "n", CLAIMS)
            self.assertEqual(minted.call_count, 3)
            await source(Stage.HANDSHAKE, "", replace(CLAIMS, weight=3))
            self.assertEqual(minted.call_count, 4)

    async def test_the_cache_never_goes_past_the_tokens_expiry(self) -> None:
        options = AttestationOptions(cache_handshake=3600, token_ttl=30)
        source = token_source(backend(HmacSecret(KEY), attestation=options))
        now = time.time()
        with mock.patch.object(sources, "mint", side_effect=sources.mint) as minted:
            await source(Stage.HANDSHAKE, "", CLAIMS)
            with mock.patch("relay.tokens.sources.time.time", return_value=now + 25):
                await source(Stage.HANDSHAKE, "", CLAIMS)
            self.assertEqual(minted.call_count, 1)
            with mock.patch("relay.tokens.sources.time.time", return_value=now + 30):
                await source(Stage.HANDSHAKE, "", CLAIMS)
            self.assertEqual(minted.call_count, 2)

    async def test_a_clock_that_jumps_makes_no_cached_token_live_longer(self) -> None:
        options = AttestationOptions(cache_handshake=20, token_ttl=100_000)
        loop = asyncio.get_running_loop()
        for jump in (-7200.0, 0.0):
            source = token_source(backend(HmacSecret(KEY), attestation=options))
            now, wall = loop.time(), time.time()
            with mock.patch.object(sources, "mint", side_effect=sources.mint) as minted:
                await source(Stage.HANDSHAKE, "", CLAIMS)
                with mock.patch("relay.tokens.sources.time.time", return_value=wall + jump):
                    await source(Stage.HANDSHAKE, "", CLAIMS)
                    self.assertEqual(minted.call_count, 1)
                    with mock.patch.object(loop, "time", return_value=now + 25):
                        await source(Stage.HANDSHAKE, "", CLAIMS)
                    self.assertEqual(minted.call_count, 2)

    async def test_a_provider_is_asked_for_every_token(self) -> None:
        asked: list[TokenRequest] = []

        async def provide(request: TokenRequest) -> str:
            asked.append(request)
            return f" {request.stage}-token\n"

        found = replace(backend(TokenProvider(provide)), tenant="acme")
        source = token_source(found)
        for stage, nonce in ((Stage.HANDSHAKE, ""), (Stage.ATTEST, "n"), (Stage.REAUTH, "m")):
            self.assertEqual(await source(stage, nonce, CLAIMS), f"{stage.value}-token")
            self.assertEqual(asked[-1], TokenRequest(stage.value, nonce, found.name, "acme", CLAIMS))
        self.assertIs(dialect_of(found), Dialect.ATTESTED)
        self.assertIs(dialect_of(backend(TokenProvider(provide, attested=False))), Dialect.TOKEN)
        self.assertEqual(TokenProvider(provide), TokenProvider(provide))

    async def test_a_provider_that_fails_is_named_and_its_words_are_not_repeated(self) -> None:
        async def slow(request: TokenRequest) -> str:
            await asyncio.Event().wait()
            return ""

        async def broken(request: TokenRequest) -> str:
            raise ValueError("s3cret")

        async def wrong(request: TokenRequest) -> Any:
            return b"s3cret"

        async def huge(request: TokenRequest) -> str:
            return "s3cret" * 100_000

        for provide, words in (
            (slow, "did not answer within 0.01 s"),
            (broken, "failed \\(ValueError\\)"),
            (wrong, "returned no token"),
            (huge, "something that is not a token"),
        ):
            with self.assertRaisesRegex(TokenError, words) as caught:
                await self.get(backend(TokenProvider(provide, timeout=0.01)))
            self.assertNotIn("s3cret", str(caught.exception))

    def test_nothing_secret_in_a_repr(self) -> None:
        for credential in (
            PresignedToken("s3cret"),
            HmacSecret("s3cret"),
            TokenCommand("attest", ("--key=s3cret",), (("KEY", "s3cret"),)),
        ):
            self.assertNotIn("s3cret", repr(backend(credential)))
            self.assertNotIn("s3cret", repr(token_source(backend(credential))))
