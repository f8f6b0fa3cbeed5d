"""Names that nodes serve although no new one should be like them: files and registries of long standing have them."""

from __future__ import annotations

import re
from typing import Final

from relay.config.hostnames import MAX_NAME, check_hostname, normalise_pattern
from relay.errors import InvalidValue

_LABELS: Final = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*", re.ASCII)


def check_served_name(text: str) -> str:
    """Return the normal form of a name that a backend may claim.

    As `relay.config.hostnames.check_hostname`, and also names with a hyphen at an end of a label and IPv4 addresses:
    users come by both in a Host header, and nodes route by it.

    Raises:
        InvalidValue: the text is no such name.
    """
    return _check(text, below_wildcard=2)


def check_route_pattern(text: str) -> str:
    """Return the normal form of a pattern that a host route may have: as `check_served_name`, and ``*.com``, which
    only chooses among the names that the backend claims.

    Raises:
        InvalidValue: the text is no such pattern.
    """
    return _check(text, below_wildcard=1)


def oddity(name: str) -> str:
    """Return what is odd with a name that `check_served_name` returned; empty where nothing is."""
    labels = name.removeprefix("*.").split(".")
    if any(label.startswith("-") or label.endswith("-") for label in labels):
        return "has a label that starts or ends with a hyphen: no certificate can be had for it"
    if labels[-1].isdigit():
        return "is an IP address or ends in a number: only users who send it as Host of plain HTTP come by it"
    return ""


def _check(text: str, *, below_wildcard: int) -> str:
    try:
        return check_hostname(text)
    except InvalidValue:
        name = normalise_pattern(text)
        wildcard = name.startswith("*.")
        rest = name[2:] if wildcard else name
        enough = not wildcard or rest.count(".") + 1 >= below_wildcard
        if enough and len(name) <= MAX_NAME and _LABELS.fullmatch(rest):
            return name
        raise
