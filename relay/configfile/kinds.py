"""Kinds of simple fields: how a value is read from a file, written to one, and kept in a column."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from relay.config.addresses import check_port
from relay.configfile.lenient import read_listen_address
from relay.configfile.nodes import Node
from relay.configfile.values import Values, is_blank
from relay.errors import InvalidValue


class Kind(Protocol):
    """How a value is read, written and kept."""

    def read(self, values: Values, node: Node, path: str, default: Callable[[], Any]) -> Any:
        """Return the value of a file's node; None for ``default()``, and for one that is wrong, which is noted."""

    def to_file(self, value: Any) -> Any:
        """Return what a file has for the value."""

    def to_column(self, value: Any) -> Any:
        """Return what a column has for the value."""

    def from_column(self, value: Any) -> Any:
        """Return the value of a column.

        Raises:
            ValueError: it cannot be one.
        """


class _Plain:
    """A kind whose values are the same everywhere."""

    def to_file(self, value: Any) -> Any:
        return value

    def to_column(self, value: Any) -> Any:
        return value

    def from_column(self, value: Any) -> Any:
        return value


@dataclass(frozen=True, slots=True)
class Whole(_Plain):
    """A whole number.

    Attributes:
        unit: for messages, as in " of seconds".
        zero: what 0 in a file is; None for the default.
        below: what less than ``least`` in a file is: the default (True), or a mistake.
    """

    least: int = 0
    unit: str = ""
    zero: int | None = 0
    below: bool = False

    def read(self, values: Values, node: Node, path: str, default: Callable[[], Any]) -> int | None:
        """Return the number."""
        if self.below:
            return _or_default(values, node, path, self.least, self.unit, default)
        return values.whole(node, path, self.least, self.unit) or self.zero


@dataclass(frozen=True, slots=True)
class Seconds:
    """Whole seconds in files and columns, a float in a configuration; None for none.

    Attributes:
        below: as in `Whole`.
    """

    least: int = 0
    below: bool = False

    def read(self, values: Values, node: Node, path: str, default: Callable[[], Any]) -> float | None:
        """Return the seconds."""
        if self.below:
            found = _or_default(values, node, path, self.least, " of seconds", default)
        else:
            found = values.whole(node, path, self.least, " of seconds")
        return None if found is None else float(found)

    def to_file(self, value: float) -> int:
        """Return them as a whole number."""
        return int(value)

    def to_column(self, value: float | None) -> int | None:
        """Return them as a whole number."""
        return None if value is None else int(value)

    def from_column(self, value: int | None) -> float | None:
        """Return them as a float."""
        return None if value is None else float(value)


@dataclass(frozen=True, slots=True)
class Flag(_Plain):
    """True or false."""

    def read(self, values: Values, node: Node, path: str, default: Callable[[], Any]) -> bool | None:
        """Return the flag."""
        return values.flag(node, path)


@dataclass(frozen=True, slots=True)
class Line(_Plain):
    """A text of one line.

    Attributes:
        check: raises `relay.errors.InvalidValue` for a text that will not do.
    """

    what: str
    limit: int
    check: Callable[[str], object] = str

    def read(self, values: Values, node: Node, path: str, default: Callable[[], Any]) -> str | None:
        """Return the text."""
        found = values.line(node, path, self.what, limit=self.limit)
        if found:
            try:
                self.check(found)
            except InvalidValue as error:
                values.note(node, path, str(error))
                return None
        return found


@dataclass(frozen=True, slots=True)
class Address(_Plain):
    """A host and port to listen at; empty for none."""

    def read(self, values: Values, node: Node, path: str, default: Callable[[], Any]) -> str | None:
        """Return the address in its normal form."""
        if is_blank(node):
            return None
        return values.understood(node, path, "write host:port, as in 127.0.0.1:1080", read_listen_address)


@dataclass(frozen=True, slots=True)
class Ports:
    """A set of ports, sorted where it is read from a file; a list in files and columns."""

    def read(self, values: Values, node: Node, path: str, default: Callable[[], Any]) -> tuple[int, ...]:
        """Return the ports."""
        return values.ports(node, path)

    def to_file(self, value: tuple[int, ...]) -> list[int]:
        """Return them as a list."""
        return list(value)

    to_column = to_file

    def from_column(self, value: object) -> tuple[int, ...]:
        """Return the ports of a list, in its order.

        Raises:
            InvalidValue: it is not a list of ports.
        """
        if not isinstance(value, list):
            raise InvalidValue("ports", value, "are not a list", "list the ports, as in [25, 465, 587]")
        return tuple(check_port(port, "port") for port in value)


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few words."""

    words: type[StrEnum]

    def read(self, values: Values, node: Node, path: str, default: Callable[[], Any]) -> StrEnum | None:
        """Return the member."""
        return values.choice(node, path, {str(word): word for word in self.words})

    def to_file(self, value: StrEnum) -> str:
        """Return the word."""
        return str(value)

    to_column = to_file

    def from_column(self, value: str) -> StrEnum:
        """Return the member of a word.

        Raises:
            ValueError: it is not one of the words.
        """
        return self.words(value)


def _or_default(
    values: Values, node: Node, path: str, least: int, unit: str, default: Callable[[], float]
) -> int | None:
    """Return a whole number; None, with a warning, for one below ``least``: nodes and clients take it so."""
    number = values.whole(node, path, None, unit)
    if number is not None and number < least:
        values.warn(node, path, f"is {number}: taken as the default, {default():g}")
        return None
    return number
