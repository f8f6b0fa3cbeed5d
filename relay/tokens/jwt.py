"""JWTs, signed, taken apart and checked: one place for the relay, the verifier and the development node.

Read strictly there is one way to write a token: what decodes to the same bytes but is written otherwise would be
another token to those who revoked this one, and readers differ in which of two equal members counts. PyJWT is not the
reader, since it takes both; its HMAC signs our own tokens and checks signatures, in constant time.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NoReturn

if TYPE_CHECKING:
    from jwt.algorithms import HMACAlgorithm

MAX_TOKEN: Final = 32 * 1024
"""Characters in a token; a node closes the session over a longer text frame."""


HS256: Final = frozenset({"HS256"})
ANY_HMAC: Final = frozenset({"HS256", "HS384", "HS512"})
"""What nodes take."""


@cache
def _hmac(name: str) -> HMACAlgorithm:
    from jwt.algorithms import HMACAlgorithm  # brings all of cryptography with it, which who only reads has no use for

    digests = {"HS256": HMACAlgorithm.SHA256, "HS384": HMACAlgorithm.SHA384, "HS512": HMACAlgorithm.SHA512}
    return HMACAlgorithm(digests[name])


class TokenRefused(Exception):
    """A token that is not good; the text is the reason, in the node's words."""


@dataclass(frozen=True, slots=True)
class Jwt:
    """A token, taken apart.

    Attributes:
        header: a JSON object, as is the payload.
        payload: its claims, unverified.
        signed: what the signature is over.
    """

    header: Mapping[str, Any]
    payload: Mapping[str, Any] = field(repr=False)
    signed: bytes = field(repr=False)
    signature: bytes = field(repr=False)

    def is_signed_with(self, secret: bytes) -> bool:
        """Tell whether this secret made the signature, by the algorithm of the header."""
        return _hmac(self.header["alg"]).verify(self.signed, secret, self.signature)


def read(text: str, *, lenient: bool = False, algorithms: Collection[str] = HS256) -> Jwt:
    """Take a token apart, without verifying it.

    Args:
        lenient: for a token of another issuer, which is handed on as it is and judged by the node alone: any algorithm,
            any spelling of base64url, members given twice.
        algorithms: those of `ANY_HMAC` that are taken, unless lenient.

    Raises:
        TokenRefused: it is not a JWT; or, unless lenient, not one signed with one of the algorithms.
    """
    if len(text) > MAX_TOKEN:
        malformed(f"token has more than {MAX_TOKEN} characters")
    if not text.isascii():
        malformed("token holds more than ASCII")
    segments = text.split(".")
    if len(segments) != 3:
        malformed("token contains an invalid number of segments")
    header = _object(_decoded(segments[0], "header", lenient), "header", lenient)
    algorithm = header.get("alg")
    if not lenient and not (isinstance(algorithm, str) and algorithm in algorithms):
        raise TokenRefused("jwt validation failed: token signature is invalid: signing method is invalid")
    if "crit" in header or header.get("b64", True) is False:
        malformed("header demands extensions")
    if lenient and not isinstance(header.get("kid", ""), str):
        malformed("header holds a kid that is not a string")
    return Jwt(
        header=header,
        payload=_object(_decoded(segments[1], "claims", lenient), "claims", lenient),
        signed=f"{segments[0]}.{segments[1]}".encode(),
        signature=_decoded(segments[2], "signature", lenient),
    )


def sign(payload: Mapping[str, Any], secret: str, key_id: str = "") -> str:
    """Return an HS256 token.

    Any secret signs, as with the nodes' library: PyJWT's own front refuses those that look like a PEM or ssh key.

    Args:
        key_id: for the header, ``kid``; empty for none.

    Raises:
        ValueError: the secret is empty, or is not text that can be written down.
    """
    if not secret:
        raise ValueError("the HMAC secret is empty: give the backend the node's key")
    try:
        key = secret.encode()
    except UnicodeEncodeError:
        raise ValueError("the HMAC secret is not text: give the backend the node's key") from None
    header = {"alg": "HS256", "typ": "JWT"} | ({"kid": key_id} if key_id else {})
    signed = ".".join(map(_encoded, (header, payload)))
    signature = _hmac("HS256").sign(signed.encode(), key)
    return f"{signed}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def _encoded(content: Mapping[str, Any]) -> str:
    raw = json.dumps(content, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def signature_is_invalid() -> TokenRefused:
    """Return the one reason for every key that does not vouch for a token: unknown, another's, or not its own."""
    return TokenRefused("jwt validation failed: token signature is invalid: signature is invalid")


def malformed(problem: str) -> NoReturn:
    """Refuse a token that is not a JWT."""
    raise TokenRefused(f"jwt validation failed: token is malformed: {problem}")


def invalid_claims(problem: str) -> TokenRefused:
    """Return the reason for registered claims that are not good here and now."""
    return TokenRefused(f"jwt validation failed: token has invalid claims: {problem}")


def _decoded(segment: str, name: str, lenient: bool) -> bytes:
    # Some issuers pad; a padded token is the same token only to a lenient reader.
    bare = segment.rstrip("=") if lenient and len(segment) % 4 == 0 else segment
    try:
        if len(segment) - len(bare) > 2:
            raise ValueError("more padding than base64 has")
        raw = base64.b64decode(bare + "=" * (-len(bare) % 4), altchars=b"-_", validate=True)
        if not lenient and (not raw or base64.urlsafe_b64encode(raw).rstrip(b"=").decode() != segment):
            raise ValueError("not the one way to write it")
    except (binascii.Error, ValueError):
        malformed(f"could not base64 decode {name}: illegal base64 data")
    return raw


def _object(raw: bytes, name: str, lenient: bool) -> dict[str, Any]:
    try:
        if lenient:
            found = json.loads(raw)
        else:
            found = json.loads(raw.decode(), object_pairs_hook=_members, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        first = ascii(chr(raw[0])) if raw else "''"
        malformed(f"could not JSON decode {name}: invalid character {first} looking for beginning of value")
    if not isinstance(found, dict):
        malformed(f"could not JSON decode {name}: not an object")
    return found


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse an object that holds a member twice: readers differ in which one counts."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a member given twice")
    return found


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")
