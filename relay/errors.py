"""Errors that name the thing, the value and the remedy."""

from __future__ import annotations


class InvalidValue(ValueError):
    """A value that the relay or the registry cannot take.

    Attributes:
        what: the thing, in the words of the user ("target", "public port").
        value: the value as given, shortened for display; never a secret.
        remedy: what would be right.
    """

    def __init__(self, what: str, value: object, problem: str, remedy: str) -> None:
        self.what = what
        self.value = shorten(value)
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{what} {self.value!r} {problem}: {remedy}")


def shorten(value: object, limit: int = 80) -> str:
    """Return ``str(value)`` cut to ``limit`` characters, for error messages."""
    text = str(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
