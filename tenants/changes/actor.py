"""The current actor, and from where it acts: the audit trail writes it beside every change."""

from __future__ import annotations

import getpass
import ipaddress
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, Final

ADMIN: Final = "admin"
API: Final = "api"
COMMAND: Final = "command"
IMPORT: Final = "import"
SYSTEM: Final = "system"
VERIFIER: Final = "verifier"
ORIGINS: Final = (ADMIN, API, COMMAND, IMPORT, SYSTEM, VERIFIER)


@dataclass(frozen=True, slots=True)
class Actor:
    """The cause of a change: a user, an account of the machine, a job or a relay.

    Attributes:
        user: a user of the registry, perhaps an anonymous one, or None. Looked at only when something is recorded.
        name: of what acts without a user.
        origin: the way the change came in.
        address: of the client; empty without one.
    """

    user: Any = None
    name: str = ""
    origin: str = SYSTEM
    address: str = ""


_SYSTEM: Final = Actor()
_actor: ContextVar[Actor] = ContextVar("tenants_actor", default=_SYSTEM)
_KEEP: Final = object()


def actor() -> Actor:
    """Return the current actor; the system, unless `acting` named another."""
    return _actor.get()


@contextmanager
def acting(
    *, user: Any = _KEEP, name: str | None = None, origin: str | None = None, address: str | None = None
) -> Iterator[None]:
    """Name the actor of everything done inside; what is left out stays as it is around it.

    Args:
        user: a user of the registry, or None for no user. Another user than around it has no ``name`` from there.
        name: of what acts without a user: an account of the machine, a job, a relay.
        origin: one of `ORIGINS`, or another short word.
        address: the client's.
    """
    changes: dict[str, Any] = {}
    if user is not _KEEP:
        changes |= {"user": user, "name": ""}
    if name is not None:
        changes["name"] = name
    if origin is not None:
        changes["origin"] = origin
    if address is not None:
        changes["address"] = normal_address(address)
    token = _actor.set(replace(_actor.get(), **changes))
    try:
        yield
    finally:
        _actor.reset(token)


def actor_name() -> str:
    """Return the actor as text: the user's name, else that of the account, job or relay."""
    by = actor()
    if by.user is not None and by.user.is_authenticated and by.user.pk is not None:
        return str(by.user.get_username())
    return by.name or (by.origin if by.user is None else "nobody")


def account() -> str:
    """Return the name of the machine's account that this process runs as."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's account may have no name
        return str(os.getuid())


def normal_address(text: str) -> str:
    """Return an IP address in its normal form; empty for other text (a client on a Unix socket has no address)."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return ""
    mapped = getattr(address, "ipv4_mapped", None)
    # The zone of an IPv6 address, behind a %, is the client's own text.
    return str(mapped or address).partition("%")[0]
