"""Reads settings from the environment, or from the file that `NAME_FILE` names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path

import environ
from django.core.exceptions import ImproperlyConfigured


class FileOrValue(MutableMapping[str, str]):
    """An environment in which `NAME_FILE` stands for `NAME`: its value is the file's text, trimmed.

    Raises:
        ImproperlyConfigured: both are set, or the file can not be read.
    """

    def __init__(self, variables: MutableMapping[str, str]) -> None:
        self._variables = variables

    def __getitem__(self, name: str) -> str:
        path = self._variables.get(f"{name}_FILE")
        if not path:
            return self._variables[name]
        if self._variables.get(name):
            raise ImproperlyConfigured(f"{name} and {name}_FILE are both set: unset one of them.")
        try:
            return Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            raise ImproperlyConfigured(
                f"{name}_FILE names {path!r}, which can not be read ({reason}): name a readable text file."
            ) from None

    def __setitem__(self, name: str, value: str) -> None:
        self._variables[name] = value

    def __delitem__(self, name: str) -> None:
        del self._variables[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._variables)

    def __len__(self) -> int:
        return len(self._variables)


class Env(environ.Env):
    """django-environ's reader over `FileOrValue`, whose empty values count as not set."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        super().__init__()
        self.ENVIRON = FileOrValue({name: value for name, value in variables.items() if value != ""})
