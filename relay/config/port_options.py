"""How the streams of a public port are carried, beside where they go: plain, frozen settings.

Durations are seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class ProxyProtocol(StrEnum):
    """Which header of the PROXY protocol a target gets in front of a stream."""

    NONE = ""
    V1 = "v1"
    V2 = "v2"


class TargetOrder(StrEnum):
    """Which of several targets a stream tries first."""

    ORDERED = "ordered"
    """The first that is healthy; the others are spares."""
    ROUND_ROBIN = "round-robin"
    """Each in turn."""


class AccessMode(StrEnum):
    """What happens to users whom an access list does not admit."""

    ENFORCE = "enforce"
    OBSERVE = "observe"
    """They are counted and logged, and let in."""


@dataclass(frozen=True, slots=True)
class AccessList:
    """Which users are let in, by address. A deny entry wins over an allow entry.

    Attributes:
        allow: networks (``192.0.2.0/24``, ``2001:db8::/32``) in normal form; empty for everybody.
        deny: networks that are kept out.
    """

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    mode: AccessMode = AccessMode.ENFORCE


@dataclass(frozen=True, slots=True)
class TargetHealth:
    """TCP health checks of targets. Off by default.

    Attributes:
        interval: seconds between two checks of a target; 0 for no checks.
        timeout: seconds for a check's connection.
        up_after: successes in a row that bring a target back.
        down_after: failures in a row that take a target out.
    """

    interval: float = 0.0
    timeout: float = 2.0
    up_after: int = 2
    down_after: int = 3


DIAL_TIMEOUT: Final = 8.0
"""Seconds for the dial of a stream, all targets and addresses together; below the 10 s after which a user should have
an answer."""


@dataclass(frozen=True, slots=True)
class PortOptions:
    """Everything that can be set for a port mapping beside its targets."""

    proxy_protocol: ProxyProtocol = ProxyProtocol.NONE
    target_order: TargetOrder = TargetOrder.ORDERED
    access: AccessList = AccessList()
    target_health: TargetHealth = TargetHealth()
    dial_timeout: float = DIAL_TIMEOUT
