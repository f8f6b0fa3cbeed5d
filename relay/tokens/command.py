"""Tokens from an attestation command (docs/protocol.md, "The attestation command")."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import signal
import time
from datetime import datetime
from typing import Final

from relay.config import BackendConfig, Claims, TokenCommand
from relay.protocol.events import Stage
from relay.tokens.issuer import Issued, TokenError, with_expiry

MAX_COMMAND_OUTPUT: Final = 256 * 1024
"""Bytes that are read of a command's output; more is a failed attempt."""

WITHHELD_ENVIRONMENT: Final = frozenset(
    name + suffix
    for name in (
        "SECRET_KEY",
        "FIELD_ENCRYPTION_KEYS",
        "DATABASE_URL",
        "REDIS_URL",
        "EMAIL_URL",
        "VERIFIER_SECRETS",
        "VERIFIER_PROXY_SECRETS",
        "WARNING_WEBHOOK_URL",
        "WARNING_WEBHOOK_SECRET",
    )
    for suffix in ("", "_FILE")
)
"""Variables of the registry's own that no attestation command sees."""


class Command:
    """Runs a program for each token: never through a shell, time-limited, its output never logged."""

    def __init__(self, backend: BackendConfig, command: TokenCommand) -> None:
        self._name = backend.name
        self._command = command

    async def __call__(self, stage: Stage, nonce: str, claims: Claims) -> Issued:
        program = self._command.command
        try:
            process = await asyncio.create_subprocess_exec(
                program,
                *self._command.args,
                env=self._environment(stage, nonce, claims),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            problem = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
            raise TokenError(f"cannot run the attestation command {program!r}: {problem}") from None
        try:
            async with asyncio.timeout(self._command.timeout):
                output = await _read_output(process)
                status = await process.wait()
        except TimeoutError:
            seconds = f"{self._command.timeout:g} s"
            raise TokenError(f"attestation command {program!r} did not finish within {seconds}") from None
        finally:
            # The group, not the process alone: what the command started must not outlive it.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            if process.returncode is None:
                await process.wait()
        if status != 0:
            raise TokenError(f"attestation command {program!r} failed with exit status {status}")
        return _token_of(output, program)

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


async def _read_output(process: asyncio.subprocess.Process) -> bytes:
    assert process.stdout is not None
    output = bytearray()
    while chunk := await process.stdout.read(65536):
        output += chunk
        if len(output) > MAX_COMMAND_OUTPUT:
            raise TokenError(f"attestation command printed more than {MAX_COMMAND_OUTPUT} bytes")
    return bytes(output)


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
