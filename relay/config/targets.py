"""Targets: the local services that streams end at, as text and as values."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from relay.config.hostnames import normalise_hostname
from relay.errors import InvalidValue, shorten

_REMEDY = "write host:port, [IPv6]:port or unix:/absolute/path"
_HOST_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)", re.ASCII)
_PORT = re.compile(r"[1-9][0-9]{0,4}", re.ASCII)
_ZONE = re.compile(r"[A-Za-z0-9._-]{1,15}", re.ASCII)  # an interface's name is at most 15 bytes
# A Unix socket's address holds 108 bytes with the closing zero (unix(7)).
_UNIX_PATH_LIMIT = 107


@dataclass(frozen=True, slots=True)
class Target:
    """Where a stream ends. ``str()`` gives the canonical text, which `parse_target` reads back to an equal value.

    Attributes:
        kind: ``tcp`` (also the host and port of a UDP service) or ``unix``.
        host: name or IP address without brackets; empty for ``unix``.
        port: 1 to 65535; 0 for ``unix``.
        path: absolute path of the socket; empty for ``tcp``.
    """

    kind: Literal["tcp", "unix"]
    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.kind == "unix":
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_target(text: str) -> Target:
    """Return the target that ``host:port``, ``[v6]:port`` or ``unix:/abs/path`` names.

    Host names are lower-cased, IPv6 addresses written in their short form.

    Raises:
        InvalidValue: the text names no target.
    """
    if not text.strip():
        raise InvalidValue("target", text, "is empty", _REMEDY)
    if " " in text or not text.isprintable():
        raise InvalidValue("target", text, "holds a space or a control character", _REMEDY)
    if text[:5].lower() == "unix:":
        return Target("unix", path=_unix_path(text))
    if "://" in text:
        rest = shorten(re.split("[/?#]", text.split("://", 1)[1].rpartition("@")[2], maxsplit=1)[0])
        raise InvalidValue(
            "target", without_userinfo(text), "is a URL", f"give host and port alone, as in {rest or 'localhost:8080'}"
        )
    if text.startswith("["):
        return _bracketed(text)
    host, colon, port = text.rpartition(":")
    if not colon:
        raise InvalidValue("target", text, "has no port", _REMEDY)
    if ":" in host:
        raise InvalidValue(
            "target", text, "has more than one colon", "put an IPv6 address in brackets, as in [::1]:8080"
        )
    if not host:
        raise InvalidValue("target", text, "has no host", f"write localhost:{port or 8080}")
    return Target("tcp", host=_host(host, text), port=_port(port, text))


@lru_cache(maxsize=65536)  # an import asks for each several times
def parse_targets(text: str) -> tuple[Target, ...]:
    """Return the targets that a comma-separated list names, in its order. A single target is a list of one.

    Raises:
        InvalidValue: one of them is none, or stands twice.
    """
    targets = tuple(parse_target(part.strip()) for part in text.split(","))
    for index, target in enumerate(targets):
        if target in targets[:index]:
            raise InvalidValue("target", str(target), "stands twice", "name each target once")
    return targets


def without_userinfo(text: str) -> str:
    """Return ``text``, an address, without what may hold a credential: user information, query and fragment."""
    return re.split("[?#]", re.sub(r"//.*@", "//…@", text, flags=re.DOTALL), maxsplit=1)[0]


def _bracketed(text: str) -> Target:
    address, bracket, port = text[1:].partition("]")
    if not bracket or not port.startswith(":"):
        raise InvalidValue("target", text, "has no port behind its brackets", "write [IPv6]:port, as in [::1]:8080")
    _, percent, zone = address.partition("%")
    try:
        host = str(ipaddress.IPv6Address(address))
        if percent and not _ZONE.fullmatch(zone):
            raise ValueError("no interface has such a name")
    except ValueError:
        raise InvalidValue("target", text, "holds no IPv6 address in its brackets", _REMEDY) from None
    return Target("tcp", host=host, port=_port(port[1:], text))


def _unix_path(text: str) -> str:
    path = text[5:]
    if not path.startswith("/"):
        raise InvalidValue(
            "target", text, "has no absolute path", "write unix:/absolute/path, as in unix:/run/app.sock"
        )
    path = "/" + path.lstrip("/")  # unix:///run/app.sock is written as well
    if path.endswith("/"):
        raise InvalidValue("target", text, "names a directory", "name the socket itself, as in unix:/run/app.sock")
    if len(path.encode()) > _UNIX_PATH_LIMIT:
        raise InvalidValue("target", text, f"has a path above {_UNIX_PATH_LIMIT} bytes", "use a shorter path")
    return path


def _host(host: str, text: str) -> str:
    name = normalise_hostname(host)
    labels = name.split(".")
    if len(name) > 253 or not all(_HOST_LABEL.fullmatch(label) for label in labels):
        raise InvalidValue("target", text, "has no valid host", _REMEDY)
    if labels[-1].isdigit():
        try:
            return str(ipaddress.IPv4Address(name))
        except ValueError:
            raise InvalidValue("target", text, "holds no valid IPv4 address", _REMEDY) from None
    return name


def _port(port: str, text: str) -> int:
    if not port:
        raise InvalidValue("target", text, "has no port", _REMEDY)
    if not _PORT.fullmatch(port) or int(port) > 65535:
        raise InvalidValue("target", text, f"has the port {shorten(port)!r}", "use a port from 1 to 65535")
    return int(port)
