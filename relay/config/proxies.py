"""Proxies that lead to nodes: their addresses, and which hosts are reached without one.

Source: the variables ``HTTPS_PROXY``, ``HTTP_PROXY`` and ``NO_PROXY`` as the documentation of
golang.org/x/net/http/httpproxy has them, which the reference client goes by; ``ALL_PROXY`` as curl has it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, urlsplit

from relay.config.addresses import is_loopback
from relay.errors import InvalidValue

NO_PROXY_AT_ALL: Final = "direct"
"""In place of a proxy's address: none, whatever the environment says."""

_DEFAULT_PORTS: Final = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}
_REMEDY: Final = f"write http://[USER:PASSWORD@]HOST:PORT, https://…, socks5://… or socks5h://…, or {NO_PROXY_AT_ALL}"
_HOST: Final = re.compile(r"[A-Za-z0-9._-]{1,253}|[0-9a-fA-F:.]{2,45}", re.ASCII)
_MOST_OF_CREDENTIAL: Final = 255


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy. ``str()`` gives its scheme, host and port, never its credential.

    Attributes:
        scheme: ``http`` or ``https`` (CONNECT), ``socks5`` (names are resolved here) or ``socks5h`` (by the proxy).
        credential: user and password; None where its address holds none.
    """

    scheme: str
    host: str
    port: int
    credential: tuple[str, str] | None = field(default=None, repr=False)

    @property
    def place(self) -> str:
        """Host and port, as in ``proxy.example:3128``."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.place}"


def parse_proxy(text: str, what: str = "proxy address") -> Proxy | None:
    """Read a proxy's address; one without a scheme is ``http://``. None for ``direct``.

    Raises:
        InvalidValue: it is none. Its message shows nothing of the address but its scheme: a password may be anywhere.
    """
    text = text.strip()
    if text.lower() == NO_PROXY_AT_ALL:
        return None
    scheme, separator, _ = text.partition("://")
    shown = f"{scheme}://…" if separator and scheme.isalnum() and len(scheme) < 20 else "…"

    def refuse(problem: str) -> InvalidValue:
        return InvalidValue(what, shown, problem, _REMEDY)

    try:
        parts = urlsplit(text if separator else f"http://{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise refuse("has no valid host and port") from None
    if parts.scheme not in _DEFAULT_PORTS:
        raise refuse("has a scheme that is no proxy's")
    if not host or not _HOST.fullmatch(host) or port == 0:
        raise refuse("has no valid host and port")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise refuse("has something behind its host and port")
    credential = None
    if parts.username is not None:
        credential = (unquote(parts.username), unquote(parts.password or ""))
        if any(len(each.encode()) > _MOST_OF_CREDENTIAL or not each.isprintable() for each in credential):
            raise refuse("holds a user or password that no proxy takes")
        if ":" in credential[0]:
            raise refuse("holds a user name with a colon")
    return Proxy(parts.scheme, host, port or _DEFAULT_PORTS[parts.scheme], credential)


def proxy_for(variables: Mapping[str, str], host: str, port: int, *, secure: bool) -> Proxy | None:
    """Return the proxy that the environment names for a node; None for none.

    Names are looked up in upper case, then in lower case. Loopback hosts never have one.

    Args:
        variables: the environment.
        secure: the node is reached by ``wss://``: ``HTTPS_PROXY`` counts, else ``HTTP_PROXY``; then ``ALL_PROXY``.

    Raises:
        InvalidValue: the variable that counts holds no proxy's address.
    """
    if is_loopback(host) or host.endswith(".localhost"):
        return None
    for name in ("HTTPS_PROXY" if secure else "HTTP_PROXY", "ALL_PROXY"):
        text = variables.get(name) or variables.get(name.lower())
        if text:
            if excluded(variables.get("NO_PROXY") or variables.get("no_proxy") or "", host, port):
                return None
            return parse_proxy(text, f"the variable {name}")
    return None


def excluded(no_proxy: str, host: str, port: int) -> bool:
    """Say whether ``NO_PROXY`` excludes a host from being reached through a proxy.

    Its entries, with commas or spaces between: ``*`` for all; a name, for itself and all below it; ``.name`` or
    ``*.name``, for those below it only; an IP address; a network (``10.0.0.0/8``). A name or an address may have a
    port. What cannot be read excludes nothing.
    """
    host = host.rstrip(".").lower()
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    for entry in re.split(r"[,\s]+", no_proxy.strip().lower()):
        if entry == "*":
            return True
        if address is not None and "/" in entry:
            try:
                if address in ipaddress.ip_network(entry, strict=False):
                    return True
            except ValueError:
                pass
            continue
        wanted, only = _split_port(entry)
        if only not in (None, port) or not wanted:
            continue
        if address is not None:
            try:
                if ipaddress.ip_address(wanted) == address:
                    return True
            except ValueError:
                pass
        elif wanted.startswith(("*.", ".")):
            below = wanted.lstrip("*.").rstrip(".")
            if below and host.endswith("." + below):
                return True
        elif host == wanted.rstrip(".") or host.endswith("." + wanted.rstrip(".")):
            return True
    return False


def _split_port(entry: str) -> tuple[str, int | None]:
    """Return an entry's host, without brackets, and its port."""
    match = re.fullmatch(r"\[([^\]]*)\](?::(\d{1,5}))?|([^:]*):(\d{1,5})", entry, re.ASCII)
    if match is None:
        return entry, None
    port = match[2] or match[4]
    return match[1] if match[1] is not None else match[3], int(port) if port else None
