"""Rules by which claims are read: which values a reader takes (docs/protocol.md, "Claims")."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

MOST_HOSTNAME: Final = 254
"""Characters in a hostname with a dot at its end."""

MOST_SECONDS: Final = 10 * 365 * 24 * 3_600
MOST_PORT: Final = 65_535


class ClaimError(ValueError):
    """A claim that is not of its type.

    Attributes:
        claim: its name.
        wanted: what it should be, as in "a list of ports".
    """

    def __init__(self, claim: str, wanted: str) -> None:
        self.claim = claim
        self.wanted = wanted
        super().__init__(f"{claim} must be {wanted}")


@dataclass(frozen=True, slots=True)
class ClaimRules:
    """What a reader takes for a hostname, a port, a weight and a time.

    Attributes:
        hostname, port, weight, seconds: say whether a value will do.
        lenient: nulls count as absent, zero as the default, and ``hostname`` only where there are no ``hostnames``.
    """

    hostname: Callable[[object], bool]
    port: Callable[[object], bool]
    weight: Callable[[object], bool]
    seconds: Callable[[object], bool]
    lenient: bool = False


def is_whole(value: object) -> bool:
    """Say whether ``value`` is a whole number; a boolean is none."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Say whether ``value`` is a number; a boolean is none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_printable(value: object) -> bool:
    """Say whether ``value`` is a text without control characters and halves of surrogate pairs."""
    return isinstance(value, str) and value.isprintable()


def _is_storable(value: object) -> bool:
    """Say whether ``value`` is a text without what no encoder and no database takes: lone surrogates and NUL."""
    return isinstance(value, str) and "\0" not in value and not any("\ud800" <= each <= "\udfff" for each in value)


STRICT: Final = ClaimRules(
    # The length before IDNA, whose cost grows with the square.
    hostname=lambda value: is_printable(value) and len(value) <= MOST_HOSTNAME,  # type: ignore[arg-type]
    port=lambda value: is_whole(value) and 1 <= value <= MOST_PORT,  # type: ignore[operator]
    weight=lambda value: is_whole(value) and value >= 1,  # type: ignore[operator]
    seconds=lambda value: is_whole(value) and 0 <= value <= MOST_SECONDS,  # type: ignore[operator]
)
"""For a reader that decides: whole numbers in their bounds, printable text."""

LENIENT: Final = ClaimRules(
    hostname=_is_storable,
    port=is_whole,
    weight=lambda value: value is None or is_whole(value),
    seconds=lambda value: value is None or is_whole(value),
    lenient=True,
)
"""For tokens of other issuers, which only the node judges: everything that some node might take."""


def listed(fields: Mapping[str, Any], name: str, fits: Callable[[Any], bool], kind: str) -> list[Any]:
    """Return a list's items; nothing where it is absent.

    Args:
        kind: what the items are, as in "ports".

    Raises:
        ClaimError: it is not a list, or holds something that does not fit.
    """
    value = fields.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(map(fits, value)):
        raise ClaimError(name, f"a list of {kind}")
    return value
