"""Reads settings from the environment, or from the file that `NAME_FILE` names."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured

from relay.config.proxies import parse_proxy
from relay.errors import InvalidValue
from relay.text import decode


class FileOrValue(MutableMapping[str, str]):
    """An environment in which `NAME_FILE` replaces `NAME`: the value is the file's text, trimmed.

    Raises:
        ImproperlyConfigured: both are set, or the file cannot be read.
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
            return decode(Path(path).read_bytes()).strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            raise ImproperlyConfigured(
                f"{name}_FILE names {path!r}, which cannot be read ({reason}): name a readable text file."
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
    """django-environ's reader over `FileOrValue`, whose empty values count as not set.

    Raises:
        ImproperlyConfigured: by each method, where the value is wrong; the message says what would be right.
    """

    def __init__(self, variables: Mapping[str, str]) -> None:
        super().__init__()
        self.ENVIRON = FileOrValue({name: value for name, value in variables.items() if value != ""})

    def get_value(
        self, var: str, cast: Any = None, default: Any = environ.Env.NOTSET, parse_default: bool = False
    ) -> Any:
        """Return a variable's value as it is written.

        django-environ takes a value that begins with `$` for the name of another variable; here it may be a secret.
        """
        value = self.ENVIRON.get(var, default)
        if value is self.NOTSET:
            raise ImproperlyConfigured(f"{var} is not set: set it.")
        return self.parse_value(value, cast) if value != default or (parse_default and value is not None) else value

    def switch(self, name: str, default: bool) -> bool:
        """Return whether it is on."""
        text = self.str(name, default="").strip().lower()
        if not text:
            return default
        if text in ("1", "true", "yes", "on"):
            return True
        if text in ("0", "false", "no", "off"):
            return False
        raise ImproperlyConfigured(f"{name} is {text!r}: set it to on or off.")

    def number(self, name: str, default: int, least: int, most: int) -> int:
        """Return a whole number within bounds."""
        text = self.str(name, default=str(default)).strip()
        if text.isascii() and text.isdigit() and len(text) < 10 and least <= int(text) <= most:
            return int(text)
        raise ImproperlyConfigured(f"{name} is {text!r}: set it to a whole number from {least} to {most}.")

    def choice(self, name: str, default: str, choices: tuple[str, ...]) -> str:
        """Return one of the choices."""
        text = self.str(name, default=default).strip()
        if text not in choices:
            raise ImproperlyConfigured(f"{name} is {text!r}: set it to one of {', '.join(choices)}.")
        return str(text)

    def proxy(self, name: str) -> str:
        """Return the address of a proxy, or ``direct``; empty where it is not set."""
        text = self.str(name, default="").strip()
        if text:
            try:
                parse_proxy(text, name)
            except InvalidValue as error:
                raise ImproperlyConfigured(f"{error}.") from None
        return text

    def texts(self, name: str, default: list[str]) -> list[str]:
        """Return the values between commas or line breaks."""
        text = self.str(name, default="")
        return [part.strip() for part in text.replace("\n", ",").split(",") if part.strip()] or default

    def resolvers(self, name: str) -> list[tuple[str, int]]:
        """Return addresses and ports, 53 where none is given."""
        found = []
        for text in self.texts(name, []):
            # A bare IPv6 address has colons of its own; with a port there are brackets around it.
            match = re.fullmatch(
                r"\[(?P<v6>[^\]]+)\](?::(?P<port6>\d{1,5}))?|(?P<v4>[^:]+)(?::(?P<port4>\d{1,5}))?", text
            )
            host = (match["v6"] or match["v4"]) if match else text
            port = int((match["port6"] or match["port4"] or 53) if match else 53)
            try:
                ipaddress.ip_address(host)
            except ValueError:
                port = 0
            if not 0 < port < 65536:
                raise ImproperlyConfigured(
                    f"{name} holds {text!r}: write addresses, with a port where it is not 53, as in 192.0.2.53, "
                    "127.0.0.1:5353 or [2001:db8::53]:53."
                )
            found.append((host, port))
        return found


def broker_url(redis_url: str) -> str:
    """Return a Redis address in the words of Celery's library: it names Unix sockets and their databases otherwise."""
    parts = urlsplit(redis_url)
    if parts.scheme != "unix":
        return redis_url
    query = {("virtual_host" if name == "db" else name): value for name, value in parse_qsl(parts.query)}
    user = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
    return f"redis+socket://{user}{parts.path}" + (f"?{urlencode(query)}" if query else "")
