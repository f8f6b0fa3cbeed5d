"""YAML text as a tree that knows its places.

Built from the parser's events in a loop, never by recursion, so that nesting, anchors and size are bounded here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from relay.configfile.problems import ConfigFileError, Problem, child, note
from relay.configfile.yaml_scalars import FLAGS, NULLS, whole_number

MAX_DEPTH = 32
"""Collections inside one another; the format needs 6."""

MAX_VALUES = 4_000_000
"""Keys and values of a file, each use of an anchor counted in full."""

_TAGS = "tag:yaml.org,2002:"
_FITS: Final[dict[str, Callable[[str], bool]]] = {
    "int": lambda text: whole_number(text) is not None,
    "float": lambda text: whole_number(text) is not None,
    "bool": FLAGS.__contains__,
    "null": NULLS.__contains__,
}
"""Tags of plain values, and what they fit."""
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(slots=True)
class Scalar:
    """A text, number, flag or null: the reader of a field decides. ``plain`` is what is no text for certain: neither in
    quotes nor tagged as one."""

    text: str
    plain: bool
    line: int
    column: int
    size: int = 1

    @property
    def is_null(self) -> bool:
        """Whether it stands for nothing."""
        return self.plain and self.text in NULLS


@dataclass(slots=True)
class Sequence:
    """A list."""

    line: int
    column: int
    items: list[Node] = field(default_factory=list)
    size: int = 1


@dataclass(slots=True)
class Mapping:
    """A mapping, ``<<`` merged in; of a key that is given twice, the first."""

    line: int
    column: int
    members: dict[str, tuple[Scalar, Node]] = field(default_factory=dict)
    merged: list[Mapping] = field(default_factory=list)
    size: int = 1


Node = Scalar | Sequence | Mapping


@dataclass(slots=True)
class _Open:
    """A collection that has begun and not ended."""

    node: Sequence | Mapping
    path: str
    key: Scalar | None = None


@dataclass(slots=True)
class Tree:
    """A file's first document.

    Attributes:
        root: None for an empty file.
        problems: those that do not stop reading.
    """

    root: Node | None
    problems: list[Problem]
    warnings: list[Problem]


def parse_nodes(text: str, filename: str) -> Tree:
    """Return the first document of a text; what is behind a second ``---`` is not looked at.

    Raises:
        ConfigFileError: it is not YAML, or is nested too deep, too large, or refers to itself.
    """
    builder = _Builder(filename)
    try:
        for event in _events(text):
            if not builder.take(event):
                break
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = ", ".join(part for part in (error.context, error.problem) if part) or "it cannot be parsed"
        builder.fail(mark, "", f"this is not YAML ({what}): mend the text around this place")
    except yaml.YAMLError as error:  # ReaderError: a character that YAML does not allow
        reason = str(getattr(error, "reason", "it cannot be parsed"))
        builder.fail(None, "", f"this is not YAML text ({reason}): save it as UTF-8 text without control characters")
    return Tree(builder.root, builder.problems, builder.warnings)


def _events(text: str) -> Iterator[Any]:
    loader = _LOADER(text)
    try:
        while loader.check_event():
            yield loader.get_event()
    finally:
        loader.dispose()


class _Builder:
    def __init__(self, filename: str) -> None:
        self.filename = filename
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        self.root: Node | None = None
        self._open: list[_Open] = []
        self._anchors: dict[str, Node] = {}
        self._unfinished: dict[int, str] = {}
        self._values = 0
        self._documents = 0

    def fail(self, mark: Any, path: str, message: str) -> None:
        self.note(mark, path, message)
        raise ConfigFileError(self.problems) from None

    def note(self, mark: Any, path: str, message: str) -> None:
        line, column = (mark.line + 1, mark.column + 1) if mark is not None else (0, 0)
        note(self.problems, Problem(self.filename, line, column, path, message))

    def warn(self, mark: Any, path: str, message: str) -> None:
        self.warnings.append(Problem(self.filename, mark.line + 1, mark.column + 1, path, message))

    def take(self, event: Any) -> bool:
        """Take an event; return whether more are wanted."""
        mark = event.start_mark
        match event:
            case yaml.ScalarEvent():
                node = Scalar(event.value, self._is_plain(event), mark.line + 1, mark.column + 1)
                self._name(event.anchor, node)
                self._attach(node, mark)
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                if event.tag is not None and event.tag not in ("!", _TAGS + "map", _TAGS + "seq"):
                    self.warn(mark, self._path(), "has a YAML tag: the value is taken without it")
                if len(self._open) >= MAX_DEPTH:
                    self.fail(mark, "", f"is nested more than {MAX_DEPTH} levels deep: the format needs 6")
                begin = Mapping if isinstance(event, yaml.MappingStartEvent) else Sequence
                opened = begin(mark.line + 1, mark.column + 1)
                self._unfinished[id(opened)] = event.anchor or ""
                self._name(event.anchor, opened)
                self._open.append(_Open(opened, self._path()))
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                closed = self._open.pop().node
                del self._unfinished[id(closed)]
                if isinstance(closed, Mapping):
                    _merge(closed)
                self._attach(closed, mark)
            case yaml.AliasEvent():
                target = self._anchors.get(event.anchor or "")
                if target is None:
                    # Not with its name: it may be a secret that begins with a star.
                    self.fail(
                        mark, self._path(), "refers to an anchor that is not defined above; quote what begins with *"
                    )
                elif id(target) in self._unfinished:
                    self.fail(mark, self._path(), "refers to an anchor that holds itself: write its value out")
                else:
                    self._attach(target, mark)
            case yaml.DocumentStartEvent():
                self._documents += 1
                if self._documents > 1:
                    self.warn(mark, "", "holds more than one YAML document (---): what follows here is not read")
                    return False
        return True

    def _is_plain(self, event: Any) -> bool:
        """Tell whether a scalar may be something else than a text: by its tag, and without one by its quotes."""
        if event.tag in (None, "!"):
            return not event.style
        name = event.tag.removeprefix(_TAGS)
        if name not in _FITS or name == event.tag:
            if event.tag != _TAGS + "str":
                self.note(event.start_mark, self._path(), "has a YAML tag: write the value without it")
            return False
        if not _FITS[name](event.value):
            self.note(
                event.start_mark, self._path(), f"is tagged !!{name} and is none: write the value without the tag"
            )
        return True

    def _name(self, anchor: str | None, node: Node) -> None:
        if anchor is not None:
            self._anchors[anchor] = node

    def _path(self) -> str:
        """Return the path of the value that comes next."""
        if not self._open:
            return ""
        top = self._open[-1]
        if isinstance(top.node, Sequence):
            return child(top.path, len(top.node.items))
        return child(top.path, top.key.text) if top.key is not None else top.path

    def _attach(self, node: Node, mark: Any) -> None:
        self._values += 1
        if not self._open:
            self.root = node
        else:
            top = self._open[-1]
            top.node.size += node.size
            if isinstance(top.node, Sequence):
                top.node.items.append(node)
            elif top.key is None:
                top.key = self._key(node, mark, top)
            else:
                self._member(top.node, top.key, node, top.path)
                top.key = None
        if self._values > MAX_VALUES or (self._open and self._open[-1].node.size > MAX_VALUES):
            self.fail(mark, "", f"holds more than {MAX_VALUES} values, uses of anchors counted in full: split the file")

    def _key(self, node: Node, mark: Any, top: _Open) -> Scalar:
        if isinstance(node, Scalar):
            return node
        self.note(mark, top.path, "has a list or a mapping for a key: keys are plain words")
        return Scalar("", False, mark.line + 1, mark.column + 1)

    def _member(self, mapping: Mapping, key: Scalar, value: Node, path: str) -> None:
        if key.plain and key.text == "<<":
            sources = value.items if isinstance(value, Sequence) else [value]
            if any(not isinstance(source, Mapping) for source in sources):
                problem = "<< takes a mapping, or a list of mappings, by their anchors, as in <<: *common"
                note(self.problems, Problem(self.filename, key.line, key.column, path, problem))
            mapping.merged.extend(source for source in sources if isinstance(source, Mapping))
            return
        first = mapping.members.setdefault(key.text, (key, value))
        if first[0] is not key:
            note(
                self.problems,
                Problem(
                    self.filename,
                    key.line,
                    key.column,
                    child(path, key.text),
                    f"the key stands twice (first in line {first[0].line}): keep one",
                ),
            )


def _merge(mapping: Mapping) -> None:
    for source in mapping.merged:
        for text, member in source.members.items():
            mapping.members.setdefault(text, member)
    mapping.merged.clear()
