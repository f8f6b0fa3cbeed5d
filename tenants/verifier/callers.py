"""Callers of the verifier: those with the shared secret, or a node by the certificate that a proxy saw."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote

BASIC_HEADER: Final = "authorization"
SECRET_HEADER: Final = "nexus-verifier-secret"  # noqa: S105  # a header's name
PROXY_HEADER: Final = "nexus-proxy-secret"
CERTIFICATE_HEADER: Final = "nexus-client-certificate"

REFUSALS: Final = 20
"""Refused calls of one address that are answered with a reason and a line in the log, in each `WINDOW`."""

WINDOW: Final = 60.0
MOST_ADDRESSES: Final = 10_000


@dataclass(frozen=True, slots=True)
class Secrets:
    """What callers show; several of each, so that one can be changed while both are in use.

    Attributes:
        callers: for `SECRET_HEADER`, or the password of Basic authentication.
        proxies: for `PROXY_HEADER`: a caller that shows one is believed about its client's certificate.
    """

    callers: tuple[bytes, ...] = field(default=(), repr=False)
    proxies: tuple[bytes, ...] = field(default=(), repr=False)

    @classmethod
    def of(cls, callers: Sequence[str], proxies: Sequence[str]) -> Secrets:
        """Return the secrets of these texts."""
        return cls(tuple(text.encode() for text in callers), tuple(text.encode() for text in proxies))

    def __bool__(self) -> bool:
        return bool(self.callers or self.proxies)


def shows(given: bytes | None, secrets: Sequence[bytes]) -> bool:
    """Tell whether what is given is one of the secrets; takes the same time whichever it is nearly."""
    if not given:
        return False
    found = False
    for secret in secrets:
        found |= hmac.compare_digest(given, secret)
    return found


def basic_secret(given: bytes | None) -> bytes | None:
    """Return the password of Basic authentication, which a node sends that is given ``https://x:SECRET@…``."""
    scheme, _, encoded = (given or b"").partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        return base64.b64decode(encoded.strip(), validate=True).partition(b":")[2] or None
    except binascii.Error:
        return None


def certificate_of(given: bytes | None) -> str:
    """Return the SHA-256 of the certificate in a proxy's header; empty for none.

    Proxies give its hexadecimal digits, in any case and with colons or without, or the certificate itself in PEM, with
    percent signs (nginx).
    """
    text = (given or b"").decode("ascii", "replace").strip()
    if text.startswith("-----BEGIN"):
        try:
            return hashlib.sha256(ssl.PEM_cert_to_DER_cert(unquote(text).strip())).hexdigest()
        except ValueError:
            return ""
    digits = text.replace(":", "").lower()
    return digits if len(digits) == 64 and set(digits) <= set("0123456789abcdef") else ""


class Refusals:
    """Counts the refused calls of each address. Good calls are never counted or slowed down."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._since = time.monotonic()

    def too_many(self, address: str) -> bool:
        """Count one more; tell whether it is beyond what is answered in full."""
        now = time.monotonic()
        if now - self._since > WINDOW or len(self._counts) > MOST_ADDRESSES:
            self._counts, self._since = {}, now
        number = self._counts[address] = self._counts.get(address, 0) + 1
        return number > REFUSALS
