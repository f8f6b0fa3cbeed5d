"""Tokens from an attestation command (docs/protocol.md, "The attestation command")."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import re
import signal
import time
from datetime import datetime
from typing import Final

from relay.config import BackendConfig, Claims, TokenCommand
from relay.protocol.events import Stage
from relay.tokens.capture import Capture, last_line
from relay.tokens.issuer import Issued, TokenError, with_expiry

MAX_COMMAND_OUTPUT: Final = 256 * 1024
"""Bytes that are read of a command's output; more is a failed attempt."""

MAX_COMMAND_ERRORS: Final = 4096
"""Bytes of the end of its standard error that are kept, for the last line of one that fails."""

_CONFIDENTIAL: Final = re.compile(r"SECRET|TOKEN|PASSW|KEY|CREDENTIAL|AUTH", re.IGNORECASE)
"""Names of variables whose values are not repeated."""

WITHHELD_ENVIRONMENT: Final = frozenset(
    name + suffix
    for name in (
        "SECRET_KEY",
        "FIELD_ENCRYPTION_KEYS",
        "DATABASE_URL",
        "REDIS_URL",
        "EMAIL_URL",
        "NODE_PROXY",
        "VERIFIER_SECRETS",
        "VERIFIER_PROXY_SECRETS",
        "WARNING_WEBHOOK_URL",
        "WARNING_WEBHOOK_SECRET",
    )
    for suffix in ("", "_FILE")
)
"""Variables of the registry's own that no attestation command sees."""


class Command:
    """Runs a program for each token: never through a shell, time-limited, its output never logged.

    Of one that fails the last line of its standard error is told, without what looks like a secret.
    """

    def __init__(self, backend: BackendConfig, command: TokenCommand) -> None:
        self._name = backend.name
        self._command = command

    async def __call__(self, stage: Stage, nonce: str, claims: Claims) -> Issued:
        program = self._command.command
        with Capture(MAX_COMMAND_OUTPUT) as output, Capture(MAX_COMMAND_ERRORS, keep_end=True) as errors:
            status = await self._run(output, errors, self._environment(stage, nonce, claims))
            printed = output.content()
            if output.overflowed:
                raise TokenError(f"attestation command {program!r} printed more than {MAX_COMMAND_OUTPUT} bytes")
            if status != 0:
                said = last_line(
                    errors.content(), [nonce, *self._secrets(), *printed.decode("utf-8", "replace").splitlines()]
                )
                problem = f"attestation command {program!r} failed with exit status {status}"
                raise TokenError(f"{problem}: {said}" if said else problem)
        return _token_of(printed, program)

    async def _run(self, output: Capture, errors: Capture, environment: dict[str, str]) -> int:
        """Return the exit status of the program.

        Its exit is the end, not that of its output: a helper that it leaves behind may hold that open for ever.
        """
        program = self._command.command
        try:
            process = await asyncio.create_subprocess_exec(
                program,
                *self._command.args,
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output.writer,
                stderr=errors.writer,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            problem = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
            raise TokenError(f"cannot run the attestation command {program!r}: {problem}") from None
        output.start(on_overflow=lambda: _kill_group(process.pid))
        errors.start()
        try:
            async with asyncio.timeout(self._command.timeout):
                return await process.wait()
        except TimeoutError:
            seconds = f"{self._command.timeout:g} s"
            raise TokenError(f"attestation command {program!r} did not finish within {seconds}") from None
        finally:
            # The group, not the process alone: what the command started must not outlive it.
            _kill_group(process.pid)
            if process.returncode is None:
                await process.wait()

    def _secrets(self) -> list[str]:
        """Return what a command may have been told in confidence, and may repeat where it fails."""
        inherited = [value for name, value in os.environ.items() if _CONFIDENTIAL.search(name)]
        return [value for _, value in self._command.env] + inherited

    def _environment(self, stage: Stage, nonce: str, claims: Claims) -> dict[str, str]:
        environment = {name: value for name, value in os.environ.items() if name not in WITHHELD_ENVIRONMENT}
        environment.update(self._command.env)
        environment |= {
            "NEXUS_ATTESTATION_STAGE": stage.value,
            "NEXUS_SESSION_NONCE": nonce,
            "NEXUS_BACKEND_NAME": self._name,
            "NEXUS_HOSTNAMES": ",".join(claims.hostnames),
            "NEXUS_WEIGHT": str(claims.weight),
            "NEXUS_TCP_PORTS": ",".join(str(port) for port in claims.tcp_ports),
            "NEXUS_UDP_ROUTES": ",".join(
                f"{route.port}:{route.flow_idle_timeout}" if route.flow_idle_timeout else str(route.port)
                for route in claims.udp_routes
            ),
            "NEXUS_OUTBOUND_ALLOWED": "true" if claims.outbound_allowed else "false",
            "NEXUS_ALLOWED_OUTBOUND_PORTS": ",".join(str(port) for port in claims.allowed_outbound_ports),
        }
        return environment


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _token_of(output: bytes, program: str) -> Issued:
    """Return the token that a command printed: its first line, or the ``token`` of a JSON object."""
    text = output.decode("utf-8", "replace").strip()
    token = text.split("\n", 1)[0]
    expires_at = math.inf
    if text.startswith("{"):
        try:
            answer = json.loads(text)
            token = answer["token"]
            expiry = answer.get("expiry")
            if not isinstance(token, str) or not (expiry is None or isinstance(expiry, str)):
                raise ValueError
            if expiry:
                expires_at = _rfc3339(expiry)
        except (ValueError, KeyError, TypeError, RecursionError):
            raise TokenError(
                f'attestation command {program!r} printed JSON that is not {{"token": "…", "expiry": "<RFC 3339>"}}'
            ) from None
        if expires_at <= time.time():
            raise TokenError(f"attestation command {program!r} printed a token that has expired")
    token = token.strip()
    if not token:
        raise TokenError(f"attestation command {program!r} printed no token")
    token, stated = with_expiry(token, f"attestation command {program!r} printed")
    return token, min(expires_at, stated)


def _rfc3339(text: str) -> float:
    """Return an instant in seconds since the epoch; infinity for the zero time that Go programs print for "none"."""
    instant = datetime.fromisoformat(text.strip().upper())
    if instant.tzinfo is None:
        raise ValueError("no offset from UTC")
    return math.inf if instant.year == 1 else instant.timestamp()
