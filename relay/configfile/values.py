"""Typed reading of a tree's values: everything that is wrong is noted, and reading goes on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from difflib import get_close_matches
from enum import StrEnum
from typing import Any, TypeVar

from relay.config.addresses import check_port, without_query
from relay.configfile import nodes
from relay.configfile.lenient import Understood
from relay.configfile.nodes import Node, Scalar
from relay.configfile.problems import Problem, child, note
from relay.configfile.yaml_scalars import FLAGS, SWITCHES, is_octal, whole_number
from relay.errors import InvalidValue, shorten

MAX_NUMBER = 2**31 - 1
"""Largest number that any field takes (the registry's columns hold no more)."""

_T = TypeVar("_T")
_Choice = TypeVar("_Choice", bound=StrEnum)


class Values:
    """Reads values of one file and collects what is wrong with them.

    Args:
        problems, warnings: those that are known already.
        places: where each key belongs, for the message about one that stands elsewhere.
    """

    def __init__(
        self, filename: str, problems: Iterable[Problem], warnings: Iterable[Problem], places: Mapping[str, str]
    ) -> None:
        self.filename = filename
        self._places = places
        self.problems = list(problems)
        self.warnings = list(warnings)
        self.positions: dict[str, tuple[int, int]] = {}
        # A file of many backends repeats its addresses and targets.
        self._known: dict[tuple[Callable[[str], Any], str], Any] = {}

    def note(self, node: Node, path: str, message: str) -> None:
        """Note a problem at a node."""
        note(self.problems, Problem(self.filename, node.line, node.column, path, message))

    def warn(self, node: Node, path: str, message: str) -> None:
        """Note a warning at a node."""
        self.warnings.append(Problem(self.filename, node.line, node.column, path, message))

    def keep(self, path: str, node: Node) -> None:
        """Remember a place for problems that show later."""
        self.positions[path] = (node.line, node.column)

    def mapping(
        self, node: Node, path: str, known: Collection[str] | None, what: str, *, secret: bool = False
    ) -> dict[str, tuple[Scalar, Node]] | None:
        """Return the members of a mapping without those that are null.

        Args:
            known: the keys that are allowed; None for any.
            what: what is expected, for the message.
            secret: never show what is there instead.
        """
        if not isinstance(node, nodes.Mapping):
            self.note(node, path, f"is {describe(node, secret=secret)}: {what}")
            return None
        found = {}
        for text, (key, value) in node.members.items():
            if key.is_null:
                self.warn(key, path, "has a key that is empty: it is left out, with its value")
            elif known is not None and text not in known:
                self.note(key, child(path, text), f"is an unknown key: {self._suggestion(text, known)}")
            elif known is None or not (isinstance(value, Scalar) and value.is_null):
                found[text] = (key, value)
        return found

    def _suggestion(self, key: str, known: Collection[str]) -> str:
        if key in self._places:
            return f"{key} belongs to the {self._places[key]}"
        by_lower = {name.lower(): name for name in sorted(known)}
        close = get_close_matches(key.lower(), by_lower, n=1, cutoff=0.7) if len(key) <= 64 else []
        close = close or [name for name in by_lower if name.startswith(key.lower()) and key]
        return f"did you mean {by_lower[close[0]]}?" if close else f"the keys here are {', '.join(sorted(known))}"

    def items(self, node: Node, path: str, what: str, *, secret: bool = False) -> list[tuple[int, Node]]:
        """Return the items of a list with their numbers, without those that are null."""
        if isinstance(node, nodes.Sequence):
            found = []
            for index, item in enumerate(node.items):
                if isinstance(item, Scalar) and item.is_null:
                    self.warn(item, child(path, index), "is an empty item: it is left out")
                else:
                    found.append((index, item))
            return found
        self.note(node, path, f"is {describe(node, secret=secret)}: {what}")
        return []

    def text(self, node: Node, path: str, what: str, *, limit: int, secret: bool = False) -> str | None:
        """Return a text; None where it is not one, which is noted. A secret is never shown."""
        if not isinstance(node, Scalar) or node.is_null:
            self.note(node, path, f"is {describe(node, secret=secret)}: {what}")
            return None
        text = node.text
        if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
            self.note(node, path, f"holds a character that no text can hold: {what}")
            return None
        if len(text) > limit:
            self.note(node, path, f"has {len(text)} characters: keep it to {limit}")
            return None
        return text

    def line(self, node: Node, path: str, what: str, *, limit: int) -> str | None:
        """Return a text of printable characters, without white space around it."""
        text = self.text(node, path, what, limit=limit)
        if text is not None and not text.strip().isprintable():
            self.note(node, path, f"holds a control character: {what}")
            return None
        return None if text is None else text.strip()

    def number(self, node: Node, path: str, remedy: str) -> int | None:
        """Return a whole number of 64 bits in any of YAML's forms; one that is not in plain digits is warned of."""
        if not isinstance(node, Scalar):
            self.note(node, path, f"is {describe(node)}: {remedy}")
            return None
        number = whole_number(node.text)
        if number is not None and node.plain and node.text == str(number):
            return number
        shown = shorten(node.text, 40)
        if number is None:
            self.note(node, path, f"is {describe(node)}, not a whole number: {remedy}")
        elif not node.plain:
            self.note(node, path, f"is the text {shown!r}: write the number without quotes")
            return None
        elif is_octal(node.text):
            plain = node.text.replace("_", "").lstrip("+-0") or "0"
            self.warn(
                node, path, f"is {shown}, an octal number in YAML: taken as {number}; write {plain} if that is meant"
            )
        else:
            self.warn(node, path, f"is {shown}: taken as {number}")
        return number

    def whole(self, node: Node, path: str, minimum: int | None, unit: str = "") -> int | None:
        """Return a whole number from ``minimum`` (None for any) to `MAX_NUMBER`, which stands for those above it."""
        least = "" if minimum is None else f", {minimum} or more"
        remedy = f"write a whole number{unit}{least}"
        number = self.number(node, path, remedy)
        if number is not None and minimum is not None and number < minimum:
            self.note(node, path, f"is {number}: {remedy} (at most {MAX_NUMBER})")
            return None
        if number is not None and number > MAX_NUMBER:
            self.warn(node, path, f"is {number}: taken as {MAX_NUMBER}, the largest number that is kept")
            return MAX_NUMBER
        return number

    def flag(self, node: Node, path: str) -> bool | None:
        """Return true or false."""
        if isinstance(node, Scalar):
            found = FLAGS.get(node.text) if node.plain else None
            found = SWITCHES.get(node.text) if found is None else found
            if found is not None:
                return found
        self.note(node, path, f"is {describe(node)}: write true or false")
        return None

    def choice(self, node: Node, path: str, choices: Mapping[str, _Choice]) -> _Choice | None:
        """Return one of several values by its text."""
        if isinstance(node, Scalar) and node.text in choices:
            return choices[node.text]
        self.note(node, path, f"is {describe(node)}: write {' or '.join(choices)}")
        return None

    def checked(self, node: Node, path: str, what: str, check: Callable[[str], _T], *, limit: int = 1000) -> _T | None:
        """Return what ``check`` makes of a text; its InvalidValue is noted."""
        text = self.text(node, path, what, limit=limit)
        if text is None:
            return None
        try:
            return check(text)
        except InvalidValue as error:
            self.note(node, path, str(error))
            return None

    def same(self, node: Node, path: str, what: str, check: Callable[[str], Any]) -> Any:
        """As `checked`, remembering what the same text gave."""
        if isinstance(node, Scalar) and not node.is_null:
            known = self._known.get((check, node.text))
            if known is not None:
                return known
            value = self.checked(node, path, what, check)
            if value is not None:
                self._known[(check, node.text)] = value
            return value
        return self.checked(node, path, what, check)

    def understood(self, node: Node, path: str, what: str, read: Callable[[str], Understood]) -> str | None:
        """Return the normal form of a text; what is remarked of it is a warning."""
        found: Understood | None = self.same(node, path, what, read)
        if found is None:
            return None
        if found.remark:
            self.warn(node, path, found.remark)
        return found.value

    def distinct(
        self, node: Node, path: str, what: str, noun: str, read: Callable[[str], Understood]
    ) -> tuple[str, ...]:
        """Return the different texts of a list as ``read`` makes them, in their order; an empty one is left out."""
        found: dict[str, Node] = {}
        for index, item in self.items(node, path, what):
            where = child(path, index)
            if isinstance(item, Scalar) and not item.text.strip():
                self.warn(item, where, "is an empty item: it is left out")
                continue
            value = self.understood(item, where, what, read)
            if value is None:
                continue
            self.keep(where, item)
            if value in found:
                first = found[value].line
                self.warn(
                    item,
                    where,
                    f"the {noun} {without_query(value)!r} is here again (first in line {first}): taken once",
                )
            found.setdefault(value, item)
        return tuple(found)

    def port(self, node: Node, path: str, what: str = "port") -> int | None:
        """Return a port."""
        number = self.number(node, path, "write a port from 1 to 65535")
        if number is None:
            return None
        try:
            return check_port(number, what)
        except InvalidValue as error:
            self.note(node, path, str(error))
            return None

    def ports(self, node: Node, where: str) -> tuple[int, ...]:
        """Return the ports of a list, sorted."""
        ports: set[int] = set()
        for index, item in self.items(node, where, "write a list of ports, as in [53]"):
            port = self.port(item, child(where, index))
            if port in ports:
                self.warn(item, child(where, index), f"the port {port} is here again: taken once")
            elif port is not None:
                ports.add(port)
        return tuple(sorted(ports))


def describe(node: Node, *, secret: bool = False) -> str:
    """Return what a node is, for messages; the value only where it is no secret."""
    if isinstance(node, nodes.Mapping):
        return "a mapping"
    if isinstance(node, nodes.Sequence):
        return "a list"
    if node.is_null:
        return "empty"
    return "a text (not shown)" if secret else repr(shorten(node.text, 60))


def is_empty(node: Node) -> bool:
    """Tell whether a value stands for nothing, as an empty text, list or mapping does in the files' own client."""
    if isinstance(node, Scalar):
        return node.is_null or not node.text.strip()
    return not (node.items if isinstance(node, nodes.Sequence) else node.members)


def is_blank(node: Node) -> bool:
    """Tell whether a value is a text, number or flag that stands for nothing."""
    return isinstance(node, Scalar) and is_empty(node)
