"""How names in their normal form stand to each other in the tree of the DNS, and which of them no tenant can own."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from publicsuffixlist import PublicSuffixList

_WILDCARD = "*."


def is_wildcard(name: str) -> bool:
    """Tell whether the name stands for any one label before its suffix."""
    return name.startswith(_WILDCARD)


def base_of(name: str) -> str:
    """Return what a wildcard stands before; of any other name itself."""
    return name.removeprefix(_WILDCARD)


def parent_of(name: str) -> str:
    """Return the text after the first label; empty for a single label."""
    return name.partition(".")[2]


def wildcard_over(name: str) -> str:
    """Return the wildcard that matches the name, whether there is one or not; empty for a single label."""
    parent = parent_of(name)
    return f"{_WILDCARD}{parent}" if parent else ""


def covering(name: str) -> list[str]:
    """Return the names whose holder holds this one too: itself (without its wildcard) and all above, longest first."""
    found = []
    rest = base_of(name)
    while rest:
        found.append(rest)
        rest = parent_of(rest)
    return found


def all_covering(names: Iterable[str]) -> set[str]:
    """Return what covers any of the names."""
    return {above for name in names for above in covering(name)}


def reversed_labels(name: str) -> str:
    """Return the labels, the last first, each with a dot behind: what is under a name then begins with its text."""
    return "".join(f"{label}." for label in reversed(name.split("."))) if name else ""


def is_public_suffix(name: str) -> bool:
    """Tell whether people who have nothing to do with each other register names directly below (``co.uk``)."""
    return bool(_public_suffixes().is_public(name))


@cache
def _public_suffixes() -> PublicSuffixList:
    return PublicSuffixList()
