"""What requests ask the database, to tell which of them cannot come out differently after the database has changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection

Statement = tuple[str, Any]
"""SQL and its parameters."""

_NO_WRITES = ("SAVEPOINT", "RELEASE SAVEPOINT", "ROLLBACK TO SAVEPOINT")


class Reads:
    """Keeps which statements belong to which request, and what each answered then.

    A request's answer follows from the request, the time, what the process keeps and what the database says. So a
    request that only read, and whose every statement still has the same rows, in the same order, has the same answer.
    """

    def __init__(self) -> None:
        self._numbers: dict[tuple[str, str], int] = {}
        self._statements: list[Statement] = []
        self._then: list[int] = []
        self._same: dict[int, bool] = {}
        self._of: dict[object, frozenset[int] | None] = {}

    @contextmanager
    def record(self, request: object) -> Iterator[None]:
        """Keep what the block asks, which must leave the database as it was."""
        asked: list[Statement] = []
        wrote = False

        def note(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
            nonlocal wrote
            if many or not sql.startswith(("SELECT ", *_NO_WRITES)):
                wrote = True
            elif sql.startswith("SELECT "):
                asked.append((sql, params))
            return execute(sql, params, many, context)

        with connection.execute_wrapper(note):
            yield
        self._of[request] = None if wrote else frozenset(self._number(*each) for each in asked)

    def same(self, request: object) -> bool:
        """Say whether a recorded request must come out as it did; asks each statement once."""
        numbers = self._of[request]
        return numbers is not None and all(map(self._is_same, numbers))

    def of(self, request: object) -> set[Statement]:
        """Return the statements of a recorded request that only read, parameters as text."""
        numbers = self._of[request]
        assert numbers is not None, f"{request} writes"
        return {(sql, repr(params)) for sql, params in (self._statements[number] for number in numbers)}

    def _number(self, sql: str, params: Any) -> int:
        key = sql, repr(params)
        if key not in self._numbers:
            self._numbers[key] = len(self._statements)
            self._statements.append((sql, params))
            self._then.append(_rows(sql, params))
        return self._numbers[key]

    def _is_same(self, number: int) -> bool:
        if number not in self._same:
            self._same[number] = _rows(*self._statements[number]) == self._then[number]
        return self._same[number]


def _rows(sql: str, params: Any) -> int:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return hash(tuple(map(tuple, cursor.fetchall())))
