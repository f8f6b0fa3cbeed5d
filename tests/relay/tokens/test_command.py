import asyncio
import json
import os
import signal
import stat
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from unittest import IsolatedAsyncioTestCase, mock

import uvloop

from relay.config import AttestationOptions, Claims, TokenCommand, UdpRoute
from relay.protocol.events import Stage
from relay.tokens import sources
from relay.tokens.issuer import TokenError
from relay.tokens.sources import token_source
from tests.relay.tokens.samples import CLAIMS, backend


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

    async def test_a_failing_command_has_the_last_word(self) -> None:
        for script, said in (
            (
                "echo first >&2; echo 'permission denied: ask the vault' >&2; echo >&2; exit 3",
                "permission denied: ask the vault",
            ),
            ("printf 'no\\033[31m colour\\n' >&2; exit 3", r"no \[31m colour"),
            ('echo s3cret; echo "bad key s3cret in $NEXUS_SESSION_NONCE" >&2; exit 3', "bad key … in …"),
            ("echo eyJhbGciOi.eyJzdWIi.c2ln is refused >&2; exit 3", "… is refused"),
            ("yes 'too long' | head -100 | tr '\\n' ' ' >&2; exit 3", "too long too .*…$"),
            ("exit 3", "$"),
        ):
            with self.subTest(script), self.assertRaisesRegex(TokenError, f"exit status 3(: )?.*{said}") as caught:
                await self.run_script(script, nonce="n-0nce")
            self.assertLess(len(str(caught.exception)), 400)
            self.assertNotIn("s3cret", str(caught.exception))

    async def test_a_command_that_can_not_run(self) -> None:
        unrunnable = self.directory / "plain"
        unrunnable.write_text("x")
        for program in (str(self.directory / "missing"), str(unrunnable), "nul\0"):
            with self.subTest(program), self.assertRaisesRegex(TokenError, "cannot run"):
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

    def leave_helper(self) -> str:
        """Return a script that leaves a helper behind, in a session of its own, which holds all outputs open."""
        pid = self.directory / "helper"

        def end() -> None:
            os.kill(int(pid.read_text()), signal.SIGKILL)

        self.addCleanup(end)
        return f"setsid sh -c 'echo $$ > {pid}; exec sleep 600' & while [ ! -s {pid} ]; do sleep 0.01; done\n"

    async def test_a_helper_that_stays_and_holds_the_output_open_is_not_waited_for(self) -> None:
        self.assertEqual(await self.run_script(self.leave_helper() + "echo token", timeout=60), "token")
        self.assertTrue(running((self.directory / "helper").read_text().strip()))

    async def test_all_that_was_printed_until_the_exit_is_there(self) -> None:
        script = f"{self.leave_helper()} head -c 200000 /dev/zero | tr '\\0' ' '; echo token"
        self.assertEqual(await self.run_script(script), "token")

    async def test_a_helper_that_stays_where_the_loop_is_uvloop(self) -> None:
        source = self.source(self.leave_helper() + "echo token", timeout=60)

        def run() -> str:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                return runner.run(source(Stage.HANDSHAKE, "", CLAIMS))  # type: ignore[arg-type]

        self.assertEqual(await asyncio.to_thread(run), "token")

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
            with mock.patch("relay.tokens.command.time.time", return_value=instant):
                await source(Stage.HANDSHAKE, "", CLAIMS)
            self.assertEqual(len(count.read_text().split()), 1)
        with mock.patch("relay.tokens.command.time.time", return_value=now + 120):
            with self.assertRaisesRegex(TokenError, "expired"):
                await source(Stage.HANDSHAKE, "", CLAIMS)
        self.assertEqual(len(count.read_text().split()), 2)


def running(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in ("Z", "X")
    except FileNotFoundError:
        return False
