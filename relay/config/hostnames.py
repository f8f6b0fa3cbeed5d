"""Host names: the normal form that the node routes by, and the strict check for names that a backend may claim.

Source: docs/protocol.md, "Hostnames and routing". The normal form is that of UTS #46 in its lookup profile
(non-transitional; STD3 rules; hyphens, joiners and the bidi rule checked; no length check). The `idna` package's own
``encode()`` is IDNA 2008 and refuses names that the node takes (``☃.net``), so only its mapping table and its
rule checks are used here.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Final

import idna

from relay.errors import InvalidValue

_ACE = "xn--"
# White space as Unicode defines it. str.strip() would also take the separators U+001C to U+001F.
_WHITE_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
_ASCII_WHITE_SPACE = "\t\n\v\f\r "
MAX_NAME: Final = 253
"""Octets of the longest host name (RFC 1035, section 2.3.4, as text). IDNA is not tried beyond as many characters: the
cost of Punycode grows with the square."""

MAX_LABEL: Final = 63
"""Octets of the longest label."""

REQUESTED_NAMES: Final = 1024
"""Names outside of ASCII that users asked for whose normal forms are remembered: 1 MiB at the most."""

_DOTS = re.compile("[.\u3002\uff0e\uff61]")  # what UTS #46 maps to a dot, and the dot
_REMEDY = "write a fully qualified name such as app.example.com, or a wildcard such as *.example.com"
# The nodes read the mapping table of Unicode 15.0, the idna package a newer one. What differs for characters that both
# know: these were disallowed (capital letters without a mapping, fillers, invisible operators, STD3), and ẞ became ss.
_REFUSED = frozenset(
    "\u04c0\u115f\u1160\u17b4\u17b5\u1806\u180e\u2061\u2062\u2063\u2132\u2183\u2260\u226e\u226f\u3164\uffa0"
    "\U0002f868\U0002f874\U0002f91f\U0002f95f\U0002f9bf"
) | {
    chr(code) for low, high in ((0x10A0, 0x10C5), (0x206A, 0x206F), (0x1D173, 0x1D17A)) for code in range(low, high + 1)
}
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_PLAIN_NAME = re.compile(rf"(?:\*\.(?={_LABEL}\.))?(?:{_LABEL}\.)*[a-z_](?:[a-z0-9_-]{{0,61}}[a-z0-9_])?", re.ASCII)
_LABEL_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_")


def normalise_hostname(text: str) -> str:
    """Return the normal form of a host name; a name that IDNA refuses stays as it is, lower-cased.

    Never raises. White space around the name and one trailing dot are dropped.
    Source: docs/protocol.md, "Hostnames and routing".
    """
    if text.isascii():
        name = text.strip(_ASCII_WHITE_SPACE).removesuffix(".").lower()
        if _ACE not in name:  # whether IDNA takes such a name or not, the result is the same
            return name
    else:
        name = text.strip(_WHITE_SPACE).removesuffix(".")
    return _to_ascii(name) or _lower(name)


def requested_name(text: str) -> str | None:
    """Return the normal form of a name that a user asked for; None where it is too long for any name in the DNS.

    For the path of every stream: strangers choose these names, so they must cost little. It is what
    `normalise_hostname` returns, but names in ASCII are only lower-cased: a route's normal form is in ASCII already.
    Too long is what has more than `MAX_NAME` octets, or a label of more than `MAX_LABEL`. Never raises.
    """
    if text.isascii():
        name = text.strip(_ASCII_WHITE_SPACE).removesuffix(".").lower()
        return name if len(name) <= MAX_LABEL or _fits(name) else None
    name = text.strip(_WHITE_SPACE).removesuffix(".")
    # In ASCII a label has as many octets as it has characters now, or more.
    if len(name) > MAX_NAME or max(map(len, _DOTS.split(name))) > MAX_LABEL:
        return None
    return _requested(name)


@lru_cache(REQUESTED_NAMES)
def _requested(name: str) -> str | None:
    try:
        found = _to_ascii(name, longest=MAX_LABEL) or _lower(name)
    except _TooLong:
        return None
    return found if _fits(found) else None


def _fits(name: str) -> bool:
    octets = name if name.isascii() else name.encode("utf-8", "replace").decode("latin-1")
    return len(octets) <= MAX_NAME and max(map(len, octets.split("."))) <= MAX_LABEL


class _TooLong(Exception):
    pass


def normalise_pattern(text: str) -> str:
    """Return the normal form of a host name or of a wildcard ``*.suffix``, whose suffix alone is normalised.

    Never raises; ``*.`` without a suffix gives the empty string. Source: docs/protocol.md, "Hostnames and routing".
    """
    name = text.strip(_WHITE_SPACE)
    if not name.startswith("*."):
        return normalise_hostname(name)
    suffix = normalise_hostname(name[2:])
    return f"*.{suffix}" if suffix else ""


def wildcard_suffix(pattern: str) -> str | None:
    """Return the suffix, with its leading dot, that a usable single-label wildcard matches; else None.

    Usable is ``*.`` before at least two labels, none of them empty and without a further ``*``: ``*.com`` is not.
    """
    name = normalise_pattern(pattern)
    if not name.startswith("*."):
        return None
    labels = name[2:].split(".")
    if len(labels) < 2 or "" in labels or "*" in name[1:]:
        return None
    return name[1:]


def check_hostname(text: str) -> str:
    """Return the normal form of a name that a backend may claim or route: a host name or a single-label wildcard.

    Stricter than `normalise_pattern`: labels of 1 to 63 letters, digits, hyphens and underscores, no hyphen at either
    end of a label, at most 253 characters in all, ``*`` only as the whole first label and only before two labels or
    more. Single-label names (``localhost``) pass; IP addresses and claimed ports (``tcp:53``) do not.

    Raises:
        InvalidValue: the text is no such name.
    """
    name = normalise_pattern(text)
    if len(name) <= MAX_NAME and _PLAIN_NAME.fullmatch(name):
        return name  # what nearly all names are, told quickly

    def refuse(problem: str, remedy: str = _REMEDY) -> InvalidValue:
        return InvalidValue("hostname", text, problem, remedy)

    if not name:
        raise refuse("is empty")
    if len(name) > MAX_NAME:
        raise refuse(f"has {len(name)} characters", f"keep a hostname to {MAX_NAME} characters")
    if " " in name or not name.isprintable():
        raise refuse("holds a space or a control character")
    if "://" in name or "/" in name:
        raise refuse("is a URL or a path, not a hostname")
    if name.startswith(("tcp:", "udp:")):
        raise refuse("is how the node names a claimed port", "claim whole ports as TCP ports or UDP routes")
    if ":" in name:
        raise refuse(
            "holds a colon", "give the name alone: the port is the port mapping's, and IP addresses do not route"
        )
    wildcard = name.startswith("*.")
    if "*" in (name[2:] if wildcard else name):
        raise refuse("holds * elsewhere than as its whole first label")
    labels = name[2 if wildcard else 0 :].split(".")
    if "" in labels:
        raise refuse("holds an empty label (two dots in a row, or a dot at an end)")
    if not name.isascii():
        raise refuse("cannot be written in ASCII (IDNA refuses it)")
    for label in labels:
        if not _LABEL_CHARACTERS.issuperset(label):
            raise refuse("holds characters other than letters, digits, hyphens and underscores")
        if label.startswith("-") or label.endswith("-"):
            raise refuse(f"has a label that starts or ends with a hyphen ({label})")
        if len(label) > MAX_LABEL:
            raise refuse(f"has a label of {len(label)} characters", f"keep each label to {MAX_LABEL} characters")
    if labels[-1].isdigit():
        raise refuse("is an IP address or ends in a number", _REMEDY)
    if wildcard and len(labels) < 2:
        raise refuse("would match a whole top-level domain", "put at least two labels after *., as in *.example.com")
    return name


def _to_ascii(name: str, longest: int = 0) -> str | None:
    """Return the ASCII form of ``name`` by UTS #46 (section 4, processing, then ToASCII), None where it is refused.

    Raises:
        _TooLong: a label has more than ``longest`` octets, where that is given; the others are not looked at then.
    """
    if len(name) > MAX_NAME:
        return None
    try:
        labels = _map(name).split(".")
        decoded = [_check_label(label) for label in labels]
        # Whether the bidi rule is asked for shows in the text as given and in what came out of Punycode.
        if _right_to_left(name) or any(
            new != old and _right_to_left(new) for new, old in zip(decoded, labels, strict=True)
        ):
            for label in decoded:  # RFC 5893, section 2: then it holds for every label
                if label:
                    idna.check_bidi(label, check_ltr=True)
        encoded = []
        for label in decoded:
            ascii_label = label if label.isascii() else _ACE + label.encode("punycode").decode("ascii")
            if longest and len(ascii_label) > longest:
                raise _TooLong
            encoded.append(ascii_label)
        return ".".join(encoded)
    except (UnicodeError, ValueError, OverflowError):  # ValueError: a joiner beside a character without a name
        return None


def _map(name: str) -> str:
    if not _REFUSED.isdisjoint(name):
        raise UnicodeError("disallowed in the tables of Unicode 15.0")
    return idna.uts46_remap(name.replace("\u1e9e", "ss"), std3_rules=True)


def _right_to_left(text: str) -> bool:
    return any(unicodedata.bidirectional(character) in ("R", "AL", "AN") for character in text)


def _check_label(label: str) -> str:
    """Return the label in Unicode; raise UnicodeError or ValueError where UTS #46 section 4.1 refuses it."""
    if label.startswith(_ACE):
        encoded = label[len(_ACE) :]
        if encoded.rfind("-") == 0:  # a delimiter with nothing before it (RFC 3492, section 6.2)
            raise UnicodeError("no Punycode")
        label = encoded.encode("ascii").decode("punycode")
        if _map(label) != label:
            raise UnicodeError("a Punycode label holds what the mapping would change")
    if not label:
        return label
    if label[2:4] == "--" or label.startswith("-") or label.endswith("-"):
        raise UnicodeError("misplaced hyphens")
    if label.isascii():
        return label
    if unicodedata.category(label[0]).startswith("M"):
        raise UnicodeError("begins with a combining mark")
    for index, character in enumerate(label):
        if character in "\u200c\u200d" and not idna.core.valid_contextj(label, index):
            raise UnicodeError("misplaced joiner")
    return label


def _lower(name: str) -> str:
    """Lower-case character by character, as Unicode's simple mapping does (no final sigma, one character for İ)."""
    return name.lower() if name.isascii() else "".join("i" if c == "\u0130" else c.lower() for c in name)
