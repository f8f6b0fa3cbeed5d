"""Typed reading of a tree's values: everything that is wrong is noted, and reading goes on."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from difflib import get_close_matches
from enum import StrEnum
from typing import Any, TypeVar

from relay.config.addresses import check_port
from relay.configfile import nodes
from relay.configfile.nodes import Node, Scalar
from relay.configfile.problems import Problem, child, note
from relay.errors import InvalidValue, shorten

MAX_NUMBER = 2**31 - 1
"""Largest number that any field takes (the registry's columns hold no more)."""

_WHOLE = re.compile(r"-?(0|[1-9][0-9]*)", re.ASCII)
_TRUE = frozenset({"true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"})
_FALSE = frozenset({"false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"})
_T = TypeVar("_T")
_Choice = TypeVar("_Choice", bound=StrEnum)


class Values:
    """Reads values of one file and collects what is wrong with them.

    Args:
        problems: those that are known already.
        places: where each key belongs, for the message about one that stands elsewhere.
    """

    def __init__(self, filename: str, problems: Iterable[Problem], places: Mapping[str, str]) -> None:
        self.filename = filename
        self._places = places
        self.problems = list(problems)
        self.warnings: list[Problem] = []
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
            if known is not None and text not in known:
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

    def items(self, node: Node, path: str, what: str, *, secret: bool = False) -> list[Node]:
        """Return the items of a list."""
        if isinstance(node, nodes.Sequence):
            return node.items
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

    def whole(self, node: Node, path: str, minimum: int, unit: str = "") -> int | None:
        """Return a whole number from ``minimum`` to `MAX_NUMBER`."""
        remedy = f"write a whole number{unit}, {minimum} or more"
        if not isinstance(node, Scalar):
            self.note(node, path, f"is {describe(node)}: {remedy}")
        elif not node.plain and _WHOLE.fullmatch(node.text):
            self.note(node, path, f"is the text {shorten(node.text, 40)!r}: write the number without quotes")
        elif not node.plain or not _WHOLE.fullmatch(node.text):
            self.note(node, path, f"is {describe(node)}, not a whole number: {remedy}")
        elif len(node.text) > 10 or not minimum <= int(node.text) <= MAX_NUMBER:
            self.note(node, path, f"is {shorten(node.text, 40)}: {remedy} (at most {MAX_NUMBER})")
        else:
            return int(node.text)
        return None

    def flag(self, node: Node, path: str) -> bool | None:
        """Return true or false."""
        if isinstance(node, Scalar) and node.plain and node.text in _TRUE | _FALSE:
            return node.text in _TRUE
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

    def distinct(self, node: Node, path: str, what: str, noun: str, check: Callable[[str], str]) -> tuple[str, ...]:
        """Return the different texts of a list as ``check`` makes them, in their order."""
        found: dict[str, Node] = {}
        for index, item in enumerate(self.items(node, path, what)):
            where = child(path, index)
            value = self.same(item, where, what, check)
            if value is None:
                continue
            self.keep(where, item)
            if value in found:
                self.note(
                    item, where, f"the {noun} {value!r} stands twice (first in line {found[value].line}): keep one"
                )
            found.setdefault(value, item)
        return tuple(found)

    def port(self, node: Node, path: str, what: str = "port") -> int | None:
        """Return a port."""
        if isinstance(node, Scalar) and node.plain and len(node.text) > 1 and node.text.startswith("0"):
            self.note(node, path, f"is {describe(node)}, an octal number in YAML: write the port in plain digits")
            return None
        return self.checked(node, path, "write a port from 1 to 65535", lambda text: check_port(text, what))

    def ports(self, node: Node, where: str) -> tuple[int, ...]:
        """Return the ports of a list, sorted."""
        ports: set[int] = set()
        for index, item in enumerate(self.items(node, where, "write a list of ports, as in [53]")):
            port = self.port(item, child(where, index))
            if port in ports:
                self.note(item, child(where, index), f"the port {port} stands twice: keep one")
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
