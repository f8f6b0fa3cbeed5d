"""Which of a target's addresses its policies let be dialled."""

from __future__ import annotations

from collections.abc import Sequence

from relay.config.target_policy import TargetPolicy
from relay.network.names import Address


class TargetRefused(OSError):
    """A policy does not let the target be dialled; nothing was tried."""


def permitted(addresses: list[Address], port: int, policies: Sequence[TargetPolicy]) -> list[Address]:
    """Return those of the addresses that all policies permit: exactly what is dialled, so nothing is resolved again.

    Raises:
        TargetRefused: there are none; why, of the first.
    """
    if not policies:
        return addresses
    found: list[Address] = []
    problem = ""
    for address in addresses:
        refusal = next(filter(None, (policy.refusal(address[1], port) for policy in policies)), "")
        if not refusal:
            found.append(address)
        problem = problem or refusal
    if not found:
        raise TargetRefused(problem)
    return found
