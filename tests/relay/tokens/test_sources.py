"""Tests of relay.tokens.sources."""

import asyncio
import json
import math
import os
import stat
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
    UdpRoute,
)
from relay.errors import InvalidValue
from relay.protocol.events import Stage
from relay.protocol.session import Dialect
from relay.tokens import sources
from relay.tokens.sources import TokenError, dialect_of, mint, parse_claims, session_claims, token_source

WIRE = Path(__file__).parents[1] / "data" / "wire"
KEY = "lab-secret-lab-secret-lab-secret-32"
CLAIMS = Claims(
    hostnames=("app.example.com", "*.preview.example.com"),
    weight=2,
    tcp_ports=(17081,),
    udp_routes=(UdpRoute(17053, 30),),
    outbound_allowed=True,
    allowed_outbound_ports=(9000,),
)


def signed(**payload: object) -> str:
    return jwt.encode(payload, KEY, algorithm="HS256")


def payload_of(token: str) -> dict[str, object]:
    payload: dict[str, object] = jwt.decode(token, KEY, algorithms=["HS256"], audience="nexus", issuer="authorizer")
    return payload


def backend(credential: object, **fields: object) -> BackendConfig:
    return BackendConfig(key="1", name="edge-apps", nodes=(), credential=credential, claims=CLAIMS, **fields)  # type: ignore[arg-type]


def recorded_tokens(name: str) -> list[str]:
    lines = [json.loads(line) for line in (WIRE / f"{name}.jsonl").read_text().splitlines()]
    return [line["text"] for line in lines if line["dir"] == "client->node" and line["opcode"] == "text"]


class ParseClaimsTests(SimpleTestCase):
    def test_recorded_tokens(self) -> None:
        handshake, attested, reauth = recorded_tokens("attested")
        self.assertEqual(parse_claims(handshake).claims, CLAIMS)
        self.assertEqual(parse_claims(attested).claims, CLAIMS)
        self.assertEqual(parse_claims(reauth).claims, CLAIMS)
        found = parse_claims(recorded_tokens("token")[0])
        self.assertEqual(found.claims, Claims(CLAIMS.hostnames, weight=2))
        self.assertEqual((found.issued_at, found.expires_at), (1760000000, 4102444800))

    def test_one_hostname_and_what_is_absent(self) -> None:
        self.assertEqual(parse_claims(signed(hostname="a.example")).claims, Claims(("a.example",)))
        self.assertEqual(parse_claims(signed(hostnames=[], hostname="a.example")).claims, Claims(("a.example",)))
        self.assertEqual(parse_claims(signed()), sources.TokenClaims(Claims()))
        self.assertEqual(parse_claims(signed(hostnames=None, weight=None, udp_routes=None)).claims, Claims())

    def test_white_space_around_is_taken_off(self) -> None:
        self.assertEqual(parse_claims(f"\n {signed(hostname='a.example')} \n").claims, Claims(("a.example",)))

    def test_expiry_of_any_number(self) -> None:
        for value, expected in (
            (12.5, 12.5),
            (10**400, math.inf),
            (-(10**400), -math.inf),
            (float("nan"), None),
            ("2030", None),
            (True, None),
            ([], None),
        ):
            self.assertEqual(parse_claims(jwt_of({"exp": value})).expires_at, expected, value)

    def test_wrong_types_are_refused_without_showing_the_token(self) -> None:
        for payload in (
            {"hostnames": "app.example.com"},
            {"hostnames": ["a", 1]},
            {"hostnames": {"a": 1}},
            {"hostnames": ["\ud800"]},
            {"hostnames": ["a\0b"]},
            {"hostname": 5},
            {"weight": "2"},
            {"weight": 1.5},
            {"weight": True},
            {"tcp_ports": [53, "80"]},
            {"tcp_ports": 53},
            {"tcp_ports": [True]},
            {"udp_routes": [53]},
            {"udp_routes": {"port": 53}},
            {"udp_routes": [{"port": "53"}]},
            {"udp_routes": [{"port": 53, "flow_idle_timeout_seconds": "30"}]},
            {"allowed_outbound_ports": "25"},
        ):
            token = jwt_of(payload)
            with self.subTest(payload), self.assertRaises(InvalidValue) as caught:
                parse_claims(token)
            self.assertNotIn(token, str(caught.exception))
            self.assertNotIn(token[:20], repr(caught.exception))

    def test_what_is_not_a_jwt(self) -> None:
        good = signed(hostname="a.example")
        head, body, _ = good.split(".")
        for token in (
            "",
            "abc",
            "abc.def.ghi",
            f"{head}.{body}",
            f"{head}.!!!.x",
            f"{head}..x",
            good + ".more",
            good + "é",
            "\ud800." + good,
            "\0",
            jwt_of([1, 2]),
            jwt_of("text"),
            jwt_of(None),
            jwt_of({}, head={"alg": "HS256", "b64": False}),
            jwt_of({}, head=[1]),
            part(b"[" * 20_000) + ".e30.x",
            head + "." + part(b'{"a":' * 4000) + ".x",
            good + "x" * sources.MAX_TOKEN,
        ):
            with self.subTest(token[:40]), self.assertRaises(InvalidValue):
                parse_claims(token)

    @given(st.text(max_size=80) | st.binary(max_size=80).map(lambda raw: f"{part(b'{}')}.{part(raw)}.x"))
    def test_hostile_tokens_raise_nothing_else(self, token: str) -> None:
        try:
            parse_claims(token)
        except InvalidValue:
            pass

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


def part(raw: bytes) -> str:
    return jwt.utils.base64url_encode(raw).decode()


def jwt_of(payload: object, head: object = None) -> str:
    """Return a token that no library would sign."""
    header = json.dumps(head if head is not None else {"alg": "HS256"})
    return f"{part(header.encode())}.{part(json.dumps(payload).encode())}.{part(b'x' * 32)}"


class MintTests(SimpleTestCase):
    def test_as_recorded(self) -> None:
        options = AttestationOptions(reauth_interval=15, reauth_grace=5)
        for stage, recorded in zip(Stage, recorded_tokens("attested"), strict=True):
            expected = jwt.decode(recorded, options={"verify_signature": False})
            nonce = expected.get("session_nonce", "")
            found = payload_of(mint("lab", CLAIMS, options, KEY, stage=stage, nonce=nonce))
            self.assertEqual(found["exp"] - found["iat"], expected["exp"] - expected["iat"])  # type: ignore[operator]
            for payload in (found, expected):
                del payload["iat"], payload["exp"]
            self.assertEqual(found, expected)
            self.assertEqual(jwt.get_unverified_header(recorded), {"alg": "HS256", "typ": "JWT"})

    def test_every_option(self) -> None:
        options = AttestationOptions(
            token_ttl=90,
            handshake_max_age=7,
            reauth_interval=900,
            reauth_grace=15,
            maintenance_grace_cap=60,
            authorizer_status_uri="https://status.example",
            policy_version="v3",
        )
        handshake = payload_of(mint("b", Claims(("a",)), options, KEY, stage=Stage.HANDSHAKE))
        attest = payload_of(mint("b", Claims(("a",)), options, KEY, stage=Stage.ATTEST, nonce="n"))
        self.assertEqual(handshake.pop("handshake_max_age_seconds"), 7)
        self.assertEqual(attest.pop("session_nonce"), "n")
        for payload in (handshake, attest):
            self.assertEqual(payload.pop("exp") - payload.pop("iat"), 90)  # type: ignore[operator]
            self.assertEqual(
                payload,
                {
                    "hostnames": ["a"],
                    "weight": 1,
                    "reauth_interval_seconds": 900,
                    "reauth_grace_seconds": 15,
                    "maintenance_grace_cap_seconds": 60,
                    "authorizer_status_uri": "https://status.example",
                    "policy_version": "v3",
                    "iss": "authorizer",
                    "sub": "b",
                    "aud": ["nexus"],
                },
            )

    def test_it_reads_back(self) -> None:
        self.assertEqual(
            parse_claims(mint("b", CLAIMS, AttestationOptions(), KEY, stage=Stage.HANDSHAKE)).claims, CLAIMS
        )


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
        pem = "-----BEGIN PUBLIC KEY-----\nMFwwDQYJ\n-----END PUBLIC KEY-----\n"
        for secret in (pem, "lone \ud800 surrogate"):
            with self.assertRaises(TokenError) as caught:
                await self.get(backend(HmacSecret(secret)))
            self.assertNotIn(secret[:12], str(caught.exception))

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
        binary.write_bytes(b"\xff\xfe\x80" * 20)
        huge.write_text("k" * 100_000)
        for path, problem in (
            (self.directory / "missing", "No such file"),
            (self.directory, "directory"),
            (empty, "is empty"),
            (binary, "not text"),
            (huge, "not a key"),
            ("nul\0", "can not read"),
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


class CommandTests(IsolatedAsyncioTestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)

    async def run_script(
        self,
        script: str,
        *args: str,
        env: tuple[tuple[str, str], ...] = (),
        timeout: float = 10,
        stage: Stage = Stage.HANDSHAKE,
        nonce: str = "",
        claims: Claims = CLAIMS,
        keep: int = 0,
    ) -> str:
        return await self.source(script, *args, env=env, timeout=timeout, keep=keep)(stage, nonce, claims)

    def source(
        self, script: str, *args: str, env: tuple[tuple[str, str], ...] = (), timeout: float = 10, keep: int = 0
    ) -> sources.TokenSource:
        path = self.directory / "attest"
        path.write_text("#!/bin/sh\n" + script)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return token_source(
            backend(TokenCommand(str(path), args, env, timeout), attestation=AttestationOptions(cache_handshake=keep))
        )

    async def environment(self, **run: object) -> dict[str, str]:
        out = self.directory / "environment"
        await self.run_script(f"env -0 > '{out}'\necho token", **run)  # type: ignore[arg-type]
        return dict(entry.split("=", 1) for entry in out.read_text().split("\0") if entry)

    async def test_the_environment_is_the_protocols(self) -> None:
        claims = replace(CLAIMS, tcp_ports=(53, 80), udp_routes=(UdpRoute(53, 30), UdpRoute(67)))
        found = await self.environment(
            stage=Stage.ATTEST, nonce="n-1", claims=claims, env=(("EXTRA", "yes"), ("NEXUS_WEIGHT", "lies"))
        )
        nexus = {name: value for name, value in found.items() if name.startswith("NEXUS_")}
        self.assertEqual(
            nexus,
            {
                "NEXUS_ATTESTATION_STAGE": "attest",
                "NEXUS_SESSION_NONCE": "n-1",
                "NEXUS_BACKEND_NAME": "edge-apps",
                "NEXUS_HOSTNAMES": "app.example.com,*.preview.example.com",
                "NEXUS_WEIGHT": "2",
                "NEXUS_TCP_PORTS": "53,80",
                "NEXUS_UDP_ROUTES": "53:30,67",
                "NEXUS_OUTBOUND_ALLOWED": "true",
                "NEXUS_ALLOWED_OUTBOUND_PORTS": "9000",
            },
        )
        self.assertEqual(found["EXTRA"], "yes")
        self.assertEqual(found["PATH"], os.environ["PATH"])

    async def test_what_is_empty_is_there_and_empty(self) -> None:
        found = await self.environment(claims=Claims(("a.example",)))
        for name in ("SESSION_NONCE", "TCP_PORTS", "UDP_ROUTES", "ALLOWED_OUTBOUND_PORTS"):
            self.assertEqual(found[f"NEXUS_{name}"], "")
        self.assertEqual(found["NEXUS_ATTESTATION_STAGE"], "handshake")
        self.assertEqual(found["NEXUS_OUTBOUND_ALLOWED"], "false")
        self.assertEqual((await self.environment(stage=Stage.REAUTH))["NEXUS_ATTESTATION_STAGE"], "reauth")

    async def test_the_registrys_own_secrets_stay_here(self) -> None:
        secrets = {"SECRET_KEY": "s", "DATABASE_URL": "s", "REDIS_URL_FILE": "s", "FIELD_ENCRYPTION_KEYS": "s"}
        with mock.patch.dict(os.environ, secrets):
            found = await self.environment(env=(("REDIS_URL_FILE", "set by the operator"),))
        self.assertEqual(set(found) & set(secrets), {"REDIS_URL_FILE"})
        self.assertEqual(found["REDIS_URL_FILE"], "set by the operator")

    async def test_no_shell_reads_the_arguments(self) -> None:
        out = self.directory / "arguments"
        args = ("--backend=edge apps", "$(touch pwned)", "; touch pwned", "*", "")
        await self.run_script(f"for a; do printf '%s\\0' \"$a\" >> '{out}'; done\necho token", *args)
        self.assertEqual(out.read_text(), "".join(f"{arg}\0" for arg in args))

    async def test_plain_output_is_the_first_line(self) -> None:
        for script in ("echo a.b.c", "printf a.b.c", "printf 'a.b.c\\r\\nmore\\n'", "printf '\\n a.b.c \\nmore'"):
            self.assertEqual(await self.run_script(script), "a.b.c", script)

    async def test_json_output(self) -> None:
        for body in (
            {"token": "a.b.c"},
            {"token": " a.b.c\n", "expiry": None},
            {"token": "a.b.c", "expiry": ""},
            {"token": "a.b.c", "expiry": "2099-01-01T00:00:00Z"},
            {"token": "a.b.c", "expiry": "2099-01-01t00:00:00.123456789z"},
            {"token": "a.b.c", "expiry": "2099-01-01T00:00:00+01:00", "more": [1]},
            {"token": "a.b.c", "expiry": "0001-01-01T00:00:00Z"},
        ):
            self.assertEqual(await self.run_script(f"cat <<'E'\n{json.dumps(body, indent=1)}\nE"), "a.b.c", body)

    async def test_bad_output_fails_without_being_shown(self) -> None:
        for output, problem in (
            ("", "no token"),
            ("   ", "no token"),
            ('{"token": ""}', "no token"),
            ('{"token": "  "}', "no token"),
            ('{"token": 5, "x": "s3cret"}', "JSON that is not"),
            ('{"tokens": "s3cret"}', "JSON that is not"),
            ('{"token": "s3cret"', "JSON that is not"),
            ('{"token": "s3cret", "expiry": 5}', "JSON that is not"),
            ('{"token": "s3cret", "expiry": "soon"}', "JSON that is not"),
            ('{"token": "s3cret", "expiry": "2099-01-01T00:00:00"}', "JSON that is not"),
            ('{"token": "s3cret", "expiry": "2001-01-01T00:00:00Z"}', "expired"),
            ('{"a":' * 30_000, "JSON that is not"),
            ("s3crét", "not a token"),
            ("s3cret" * 8000, "not a token"),
        ):
            path = self.directory / "output"
            path.write_text(output)
            with self.subTest(output[:50]), self.assertRaisesRegex(TokenError, problem) as caught:
                await self.run_script(f"cat '{path}'")
            self.assertNotIn("s3cr", str(caught.exception))
            self.assertIsNone(caught.exception.__cause__)

    async def test_a_failing_command_names_its_status(self) -> None:
        with self.assertRaisesRegex(TokenError, "exit status 3") as caught:
            await self.run_script("echo s3cret; echo s3cret >&2; exit 3", env=(("KEY", "s3cret"),))
        self.assertNotIn("s3cret", str(caught.exception))

    async def test_a_command_that_can_not_run(self) -> None:
        unrunnable = self.directory / "plain"
        unrunnable.write_text("x")
        for program in (str(self.directory / "missing"), str(unrunnable), "nul\0"):
            with self.subTest(program), self.assertRaisesRegex(TokenError, "can not run"):
                await token_source(backend(TokenCommand(program)))(Stage.HANDSHAKE, "", CLAIMS)

    async def test_endless_output_is_cut_off(self) -> None:
        with self.assertRaisesRegex(TokenError, "more than"):
            await asyncio.wait_for(self.run_script("exec yes s3cret"), 10)

    async def test_time_out_kills_the_whole_group(self) -> None:
        pids = self.directory / "pids"
        script = f"sleep 600 & echo $! > '{pids}'; echo $$ >> '{pids}'; echo token; wait"
        with self.assertRaisesRegex(TokenError, "did not finish within 0.5 s"):
            await self.run_script(script, timeout=0.5)
        await self.gone(pids)

    async def test_what_a_command_leaves_behind_is_killed(self) -> None:
        pids = self.directory / "pids"
        script = f"sleep 600 >/dev/null 2>&1 & echo $! > '{pids}'; echo token"
        self.assertEqual(await self.run_script(script), "token")
        await self.gone(pids)

    async def test_cancelling_kills_the_command(self) -> None:
        pids = self.directory / "pids"
        task = asyncio.create_task(self.run_script(f"sleep 0.1; echo $$ > '{pids}'; exec sleep 600"))
        async with asyncio.timeout(10):
            while not (pids.exists() and pids.read_text().strip()):
                await asyncio.sleep(0.01)
        task.cancel()
        with self.assertRaises(asyncio.CancelledError):
            await task
        await self.gone(pids)

    async def gone(self, pids: Path) -> None:
        """Wait until none of the processes runs; a zombie that nobody has reaped yet is gone too."""
        async with asyncio.timeout(10):
            for pid in pids.read_text().split():
                while running(pid):
                    await asyncio.sleep(0.01)

    async def test_a_stated_expiry_bounds_the_cache(self) -> None:
        count = self.directory / "count"
        expiry = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 120))
        script = f"echo x >> '{count}'\n" + f"""echo '{{"token":"opaque","expiry":"{expiry}"}}'"""
        source = self.source(script, keep=3600)
        now = time.time()
        for instant in (now, now + 100):
            with mock.patch("relay.tokens.sources.time.time", return_value=instant):
                await source(Stage.HANDSHAKE, "", CLAIMS)
            self.assertEqual(len(count.read_text().split()), 1)
        with mock.patch("relay.tokens.sources.time.time", return_value=now + 120):
            with self.assertRaisesRegex(TokenError, "expired"):
                await source(Stage.HANDSHAKE, "", CLAIMS)
        self.assertEqual(len(count.read_text().split()), 2)


def running(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in ("Z", "X")
    except FileNotFoundError:
        return False
