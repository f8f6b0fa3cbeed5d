"""Secrets made for a test, and the search for them in whatever it left behind."""

from __future__ import annotations

import base64
import html
import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import quote, quote_plus

MARK = "zQ7kAnArIe"
"""Begins and ends every made secret, so that a piece of one is found too."""


def forms_of(text: str) -> dict[str, bytes]:
    """Return the ways in which a text may stand somewhere, each as the bytes to look for."""
    raw = text.encode()
    found = {"plain": raw, "hexadecimal": raw.hex().encode(), "HEXADECIMAL": raw.hex().upper().encode()}
    found["URL-encoded"] = quote(text, safe="").encode()
    found["URL-encoded form"] = quote_plus(text).encode()
    found["HTML"] = html.escape(text).encode()
    found["JSON"] = json.dumps(text)[1:-1].encode()
    found["repr"] = repr(text)[1:-1].encode()
    found["UTF-16"] = text.encode("utf-16-le")
    for encode, name in ((base64.b64encode, "base64"), (base64.urlsafe_b64encode, "URL-safe base64")):
        for shift in range(3):  # what stands before it decides how its bytes are split into groups of three
            first, last = -(-shift * 8 // 6), (shift + len(raw)) * 8 // 6
            found[f"{name}, shifted by {shift}"] = encode(bytes(shift) + raw)[first:last]
    return {name: form for place, (name, form) in enumerate(found.items()) if form not in list(found.values())[:place]}


@dataclass
class Canaries:
    """Made and given secrets by name, and how much was searched for them.

    Attributes:
        artefacts, searched: how many things were searched, and their bytes.
    """

    values: dict[str, str] = field(default_factory=dict)
    artefacts: int = 0
    searched: int = 0
    _patterns: dict[tuple[str, str], bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._patterns = {("a piece of a made secret", form): text for form, text in forms_of(MARK).items()}

    def make(self, name: str, extra: str = "") -> str:
        """Return a new secret, with characters in its middle that encodings change."""
        value = f"{MARK}{secrets.token_hex(8)}{extra}{secrets.token_hex(4)}{MARK}"
        self.values[name] = value
        return value

    def add(self, name: str, value: str) -> str:
        """Take a secret from elsewhere; of a JWT each part, since its claims may be shown and itself never."""
        self.values[name] = value
        parts = value.split(".") if value.count(".") == 2 else [value]
        for part in parts[1:] or parts:  # a JWT's header is the same for all
            self._patterns |= {(name, form): text for form, text in forms_of(part).items()}
        return value

    def hits(self, artefact: str, content: str | bytes) -> Iterator[str]:
        """Yield what stands in an artefact, each with its place, without repeating it."""
        raw = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
        self.artefacts += 1
        self.searched += len(raw)
        for (name, form), pattern in self._patterns.items():
            place = raw.find(pattern)
            if place >= 0:
                before = raw[max(0, place - 80) : place].decode("utf-8", "replace")
                yield f"{artefact}: {self._named(raw, name)}, {form}, at byte {place}, behind {before!r}"

    def _named(self, raw: bytes, name: str) -> str:
        for known, value in self.values.items():
            if any(form in raw for form in forms_of(value).values()):
                return known
        return name
