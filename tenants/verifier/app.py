"""The verifier's two addresses, in front of the admin's: plain ASGI, without sessions, cookies and middleware.

Django reads a request's whole body before it looks at it, and its synchronous middleware costs more than a decision.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Final

from django.conf import settings
from django.db import DatabaseError

from relay.logs import get_logger
from relay.tokens.jwt import MAX_TOKEN
from tenants.changes.actor import normal_address
from tenants.services.tokens.issue import STATUS_PATH, status_uri
from tenants.verifier.callers import (
    BASIC_HEADER,
    CERTIFICATE_HEADER,
    PROXY_HEADER,
    SECRET_HEADER,
    Refusals,
    Secrets,
    basic_secret,
    certificate_of,
    shows,
)
from tenants.verifier.recorder import Recorder, Verification
from tenants.verifier.verifier import Verifier

VERIFY_PATH: Final = "/nexus/verify"
MOST_BODY: Final = MAX_TOKEN + 4_096
"""Bytes: the token in JSON, and white space."""

ANSWER_TIMEOUT: Final = 8.0
"""Seconds for an answer; a node waits 10."""

BODY_TIMEOUT: Final = 4.0
"""Seconds for the request's body."""

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

log = get_logger("tenants.verifier")


class Answer(Exception):
    """What is answered, as status and JSON."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        super().__init__(status)
        self.status = status
        self.body = body


def problem(status: int, text: str) -> Answer:
    """Return an answer that is no decision. A node takes 4xx for a refusal, and 5xx for an outage only."""
    return Answer(status, {"valid": False, "error": text})


class VerifierApp:
    """Answers at the verifier's addresses and hands everything else on.

    Args:
        inner: the rest of the site.
    """

    def __init__(self, inner: ASGIApp) -> None:
        self._inner = inner
        self._secrets = Secrets.of(settings.VERIFIER_SECRETS, settings.VERIFIER_PROXY_SECRETS)
        self._refusals = Refusals()
        self._verifier: Verifier | None = None
        self._recorder = Recorder(refused_only=settings.VERIFIER_RECORDS == "refused")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http" and scope["path"] in (VERIFY_PATH, STATUS_PATH):
            await self._answer(scope, receive, send)
        else:
            await self._inner(scope, receive, send)

    @property
    def verifier(self) -> Verifier:
        """What decides; made when it is first asked."""
        if self._verifier is None:
            self._verifier = Verifier(status_uri=status_uri())
        return self._verifier

    async def close(self) -> None:
        """Write what is to be put on record and let the database go."""
        await self._recorder.close()
        if self._verifier is not None:
            self._verifier.close()

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                await self.close()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                if scope["path"] == STATUS_PATH:
                    answer = await self._status(scope)
                else:
                    answer = await self._verify(scope, receive)
        except Answer as found:
            answer = found
        except (DatabaseError, TimeoutError) as error:
            log.warning("the verifier cannot ask its database", problem=type(error).__name__)
            answer = problem(503, "the registry's database cannot be asked")
        except Exception as error:
            # A token that finds a fault of ours must not make the node believe that we are away. The error's text
            # might hold what was sent.
            log.error("the verifier failed", problem=type(error).__name__, place=_place(error))
            answer = Answer(200, {"valid": False, "error": "the registry cannot read this token"})
        await _send(send, answer, head=scope["method"] == "HEAD")

    async def _status(self, scope: Scope) -> Answer:
        """Answer 200 while re-authentications can be verified."""
        self._check_on()
        if scope["method"] not in ("GET", "HEAD"):
            raise problem(405, "ask with GET")
        if settings.VERIFIER_MAINTENANCE:
            return Answer(503, {"status": "maintenance"})
        await self.verifier.look()
        return Answer(200, {"status": "ok"})

    async def _verify(self, scope: Scope, receive: Receive) -> Answer:
        self._check_on()
        if scope["method"] != "POST":
            raise problem(405, "ask with POST")
        address = normal_address((scope.get("client") or ("",))[0])
        headers = _headers(scope)
        caller = await self._caller(headers, address)
        if settings.SECURE_SSL_REDIRECT and scope.get("scheme") != "https":
            raise problem(403, "ask by https: tokens are not for plain HTTP")
        token = _token_of(await _body(headers, receive))
        decision = await self.verifier.decide(token)
        self._recorder.add(Verification(decision, caller, address))
        if decision.valid:
            return Answer(200, {"valid": True, "claims": decision.claims})
        return Answer(200, {"valid": False, "error": decision.reason})

    def _check_on(self) -> None:
        if not self._secrets:
            raise problem(404, "there is no such page")

    async def _caller(self, headers: dict[str, bytes], address: str) -> str:
        """Return who asks.

        Raises:
            Answer: it is not one that may.
        """
        by_header = shows(headers.get(SECRET_HEADER), self._secrets.callers)
        if by_header | shows(basic_secret(headers.get(BASIC_HEADER)), self._secrets.callers):
            return "a node with the shared secret"
        if shows(headers.get(PROXY_HEADER), self._secrets.proxies):
            certificate = certificate_of(headers.get(CERTIFICATE_HEADER))
            name = await self.verifier.node(certificate) if certificate else None
            if name is not None:
                return name
        if self._refusals.too_many(address):
            raise problem(429, "too many refused calls")
        log.warning("a caller of the verifier was refused", address=address)
        raise problem(401, "show the shared secret, or the certificate of a node that the registry knows")


def _headers(scope: Scope) -> dict[str, bytes]:
    """Return the headers by name; one sent twice does not count, since proxies differ in which one they mean."""
    found: dict[str, bytes] = {}
    twice = set()
    headers: Iterable[tuple[bytes, bytes]] = scope["headers"]
    for name, value in headers:
        text = name.decode("latin-1").lower()
        if text in found:
            twice.add(text)
        found[text] = value
    return {name: value for name, value in found.items() if name not in twice}


async def _body(headers: dict[str, bytes], receive: Receive) -> bytes:
    """Return the request's body.

    Raises:
        Answer: it is too long, comes too slowly, or never came whole.
    """
    announced = headers.get("content-length", b"")
    if announced.isdigit() and (len(announced) > 9 or int(announced) > MOST_BODY):
        raise too_long()
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            return await _read(receive)
    except TimeoutError:
        # No outage of ours: an answer of 5xx is never what the other side brings about.
        raise problem(408, f"the request did not come whole in {BODY_TIMEOUT:g} seconds") from None


def too_long() -> Answer:
    """Return the answer to a body that is too long."""
    return problem(413, f"a request has at most {MOST_BODY} bytes")


async def _read(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise problem(400, "the request was not sent whole")
        body += message.get("body", b"")
        if len(body) > MOST_BODY:
            raise too_long()
        if not message.get("more_body"):
            return bytes(body)


def _token_of(body: bytes) -> str:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    token = found.get("token") if isinstance(found, dict) else None
    if not isinstance(token, str) or not token:
        raise problem(400, 'send {"token": "…"} as JSON')
    return token.strip()


async def _send(send: Send, answer: Answer, *, head: bool) -> None:
    body = json.dumps(answer.body).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
    ]
    with contextlib.suppress(OSError):
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if head else body})


def _place(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else ""
