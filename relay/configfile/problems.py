"""What is wrong with a configuration file, and where."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

SHOWN = 1000
"""Problems that an error's text lists; it counts the rest."""

LIMIT = 10_000
"""Problems after which reading stops."""

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_<-]{1,64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, or a warning.

    ``str()`` gives ``file:line:column: path: what, and what would be right``.

    Attributes:
        filename: the file as the user named it.
        line, column: from 1; 0 where the problem has no place in the text (the file cannot be read).
        path: way to the value, as in ``backends[0].portMappings.443.hosts``; empty for the whole file.
        message: what is wrong and what would be right. Never holds a secret.
    """

    filename: str
    line: int
    column: int
    path: str
    message: str

    def __str__(self) -> str:
        place = f"{self.filename}:{self.line}:{self.column}" if self.line else self.filename
        return f"{place}: {self.path}: {self.message}" if self.path else f"{place}: {self.message}"


class ConfigFileError(ValueError):
    """A configuration file that cannot be used; ``str()`` lists its problems, one a line.

    Attributes:
        problems: all that were found, in the order of the file.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: (problem.line, problem.column)))
        lines = [str(problem) for problem in self.problems[:SHOWN]]
        if len(self.problems) > SHOWN:
            lines.append(f"… and {len(self.problems) - SHOWN} more problems")
        super().__init__("\n".join(lines))


def note(problems: list[Problem], problem: Problem) -> None:
    """Add a problem.

    Raises:
        ConfigFileError: there are too many to go on.
    """
    problems.append(problem)
    if len(problems) >= LIMIT:
        raise ConfigFileError(problems)


def child(path: str, key: str | int) -> str:
    """Return the path of a member (by key) or an item (by index) of the value at ``path``."""
    if isinstance(key, int):
        return f"{path}[{key}]"
    if not _PLAIN_KEY.fullmatch(key):
        shown = key if len(key) <= 64 else key[:63] + "…"
        key = '"' + "".join(c if c.isprintable() and c not in '"\\' else f"\\u{ord(c):04x}" for c in shown) + '"'
    return f"{path}.{key}" if path else key
