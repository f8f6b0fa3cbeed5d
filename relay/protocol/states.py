"""State machines as tables: for each state the events that it may meet, and the state that follows."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import TypeVar

S = TypeVar("S", bound=Enum)
E = TypeVar("E", bound=Enum)

Transitions = Mapping[S, Mapping[E, S]]


class IllegalTransition(RuntimeError):
    """An event that the state has no place for: a defect of the caller's, never of a node's."""


def advance(transitions: Transitions[S, E], state: S, event: E) -> S:
    """Return the state that follows.

    Raises:
        IllegalTransition: the table has no such step.
    """
    try:
        return transitions[state][event]
    except KeyError:
        raise IllegalTransition(f"{event} has no place in {state}") from None
