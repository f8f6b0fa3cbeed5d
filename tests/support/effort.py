"""How much work something makes, as a number that does not depend on the machine or on who else uses it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


class Effort:
    """Counts calls of functions, Python's and C's.

    Attributes:
        calls: how many there were.
    """

    def __init__(self) -> None:
        self.calls = 0

    def _count(self, frame: object, event: str, argument: object) -> None:
        self.calls += event in ("call", "c_call")


@contextmanager
def effort() -> Iterator[Effort]:
    """Count the calls that this thread makes within the context."""
    counted, before = Effort(), sys.getprofile()
    sys.setprofile(counted._count)
    try:
        yield counted
    finally:
        sys.setprofile(before)
