"""Asks a verifier about tokens (docs/protocol.md, "A node can ask a verifier")."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import ssl
from typing import Any, Final
from urllib.error import HTTPError
from urllib.parse import unquote_to_bytes, urlsplit, urlunsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, ProxyHandler, Request, build_opener

from relay.devnode.options import NodeOptions
from relay.devnode.tokens import checked_claims
from relay.tokens.claims import TokenClaims
from relay.tokens.jwt import TokenRefused

ANSWER_TIMEOUT: Final = 10.0
STATUS_TIMEOUT: Final = 5.0
MOST_ANSWER: Final = 256 * 1024


class VerifierAway(TokenRefused):
    """It says that it cannot answer."""


class VerifierUnreachable(VerifierAway):
    """It does not answer. The node's reason is longer than a Close holds, so the socket ends without one."""


async def ask(options: NodeOptions, token: str) -> TokenClaims:
    """Have a token checked.

    Raises:
        TokenRefused: with the reason that follows "token validation failed: ".
        VerifierAway, VerifierUnreachable: it cannot be asked.
    """
    body = json.dumps({"token": token}).encode()
    address, basic = _without_userinfo(options.verifier_url)
    headers = {"Content-Type": "application/json", **basic, **dict(options.verifier_headers)}
    status, text = await asyncio.to_thread(_fetch, options, address, body, headers, ANSWER_TIMEOUT)
    if status >= 500:
        raise VerifierAway(f"remote verifier returned status {status}")
    if status != 200:
        raise TokenRefused(f"remote verifier rejected token with status {status}")
    try:
        answer = json.loads(text)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise TokenRefused("remote verifier returned no JSON")
    if answer.get("valid") is not True:
        raise TokenRefused(str(answer.get("error") or "remote verifier rejected token"))
    fields: dict[str, Any] = answer.get("claims") or {}
    return checked_claims(fields, attested=options.attested)


async def is_up(options: NodeOptions, address: str) -> bool:
    """Tell whether the authorizer says that a re-authentication can be verified now."""
    try:
        status, _ = await asyncio.to_thread(_fetch, options, address, None, {}, STATUS_TIMEOUT)
    except VerifierAway:
        return False
    return status == 200


def _without_userinfo(address: str) -> tuple[str, dict[str, str]]:
    """Return an address without user information, and the header that carries that."""
    parts = urlsplit(address)
    userinfo, at, host = parts.netloc.rpartition("@")
    if not at:
        return address, {}
    basic = base64.b64encode(unquote_to_bytes(userinfo)).decode()
    return urlunsplit(parts._replace(netloc=host)), {"Authorization": f"Basic {basic}"}


class _NoRedirect(HTTPRedirectHandler):
    """Takes a redirect for an answer like any other."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _fetch(
    options: NodeOptions, address: str, body: bytes | None, headers: dict[str, str], patience: float
) -> tuple[int, bytes]:
    """Return status and text; in a thread."""
    context = ssl.create_default_context(cafile=options.verifier_ca and str(options.verifier_ca))
    if options.verifier_certificate:
        context.load_cert_chain(options.verifier_certificate)
    opener = build_opener(ProxyHandler({}), HTTPSHandler(context=context), _NoRedirect)
    request = Request(address, body, headers)  # noqa: S310  # the operator of the node chose the address
    try:
        with opener.open(request, timeout=patience) as answer:
            return answer.status, answer.read(MOST_ANSWER)
    except HTTPError as error:
        with error:
            return error.code, error.read(MOST_ANSWER)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise VerifierUnreachable(f"remote verifier request failed: {type(error).__name__}") from None
