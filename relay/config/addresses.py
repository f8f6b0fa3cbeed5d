"""Node addresses and public ports."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

from relay.config.hostnames import normalise_hostname
from relay.config.targets import without_userinfo
from relay.errors import InvalidValue

_REMEDY = "write wss://HOST[:PORT]/connect"
_HOST_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)", re.ASCII)
_PORT = re.compile(r"[1-9][0-9]{0,4}", re.ASCII)
_PATH = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*", re.ASCII)
_QUERY = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*", re.ASCII)
_AUTHORITY = re.compile(r"(?:\[[^\]]*\]|[^:]*)(?::[0-9]*)?")
_DEFAULT_PORTS = {"wss": 443, "ws": 80}
_DEFAULT_PATH = "/connect"


def check_node_address(text: str, *, allow_insecure: bool = False) -> str:
    """Return the normal form of a node's WebSocket address: ``wss://host[:port]/path[?query]``.

    Scheme and host are lower-cased, the scheme's own port is left out, and an address without a path gets ``/connect``
    (docs/protocol.md, "Session"), so that two spellings of one node do not become two sessions.

    Args:
        text: the address. User information is refused: it would put a credential in a log. A query is kept, and is
            shown nowhere (`without_query`).
        allow_insecure: take ``ws://`` to other hosts than loopback ones.

    Raises:
        InvalidValue: the text is no such address; its message holds no user information, query or fragment.
    """
    shown = without_userinfo(text)

    def refuse(problem: str, remedy: str = _REMEDY) -> InvalidValue:
        return InvalidValue("node address", shown, problem, remedy)

    if not text.strip():
        raise refuse("is empty")
    if " " in text or not text.isprintable():
        raise refuse("holds a space or a control character")
    if "://" not in text:
        raise refuse("has no scheme")
    try:
        parts = urlsplit(text)
    except ValueError:
        raise refuse("cannot be read as an address") from None
    if parts.scheme not in _DEFAULT_PORTS:
        raise refuse(f"has the scheme {parts.scheme}://" if parts.scheme else "has no scheme")
    # What looks like a query or a path may be the rest of a password.
    hidden = "@" in parts.netloc + parts.query + parts.fragment
    if hidden or ("@" in parts.path and not _AUTHORITY.fullmatch(parts.netloc)):
        raise refuse("holds user information", "leave it out: a backend authenticates with its own credential")
    if parts.fragment or "#" in text:
        raise refuse("holds a fragment", "leave it out: " + _REMEDY)
    if not _QUERY.fullmatch(parts.query):
        raise refuse("has a query with characters that must be percent-encoded")
    host, port = _host_and_port(parts.netloc, shown)
    if parts.scheme == "ws" and not allow_insecure and not (is_loopback(host) or host.endswith(".localhost")):
        raise refuse(
            "is not encrypted, and its host is not loopback",
            "use wss://, or allow insecure node addresses in the settings",
        )
    path = _DEFAULT_PATH if parts.path in ("", "/") else parts.path
    if not _PATH.fullmatch(path):
        raise refuse("has a path with characters that must be percent-encoded")
    shown_host = f"[{host}]" if ":" in host else host
    shown_port = "" if port in (None, _DEFAULT_PORTS[parts.scheme]) else f":{port}"
    query = f"?{parts.query}" if parts.query else ""
    return f"{parts.scheme}://{shown_host}{shown_port}{path}{query}"


def without_query(address: str) -> str:
    """Return a node's address as it is shown: a query may hold a credential."""
    return address.partition("?")[0]


def check_status_address(text: str) -> str:
    """Return the address that a node asks before a re-authentication (``authorizer_status_uri``), as it is.

    Raises:
        InvalidValue: it is not an ``https://`` URL with a host. A node refuses the whole session for any other.
    """

    def refuse(problem: str) -> InvalidValue:
        return InvalidValue(
            "authorizer status address",
            without_userinfo(text),
            problem,
            "write https://HOST/PATH or leave it out: nodes refuse every session whose token has another",
        )

    try:
        parts = urlsplit(text)
        host = parts.hostname
    except ValueError:
        raise refuse("cannot be read as an address") from None
    if parts.scheme != "https":
        raise refuse("is not an https:// address")
    if not host or " " in text or not text.isprintable():
        raise refuse("has no valid host" if not host else "holds a space or a control character")
    return text


def is_status_address(text: str) -> bool:
    """Tell whether `check_status_address` takes a text."""
    try:
        check_status_address(text)
    except InvalidValue:
        return False
    return True


def check_port(value: object, what: str = "public port") -> int:
    """Return the port that an int, or its decimal text without leading zeros, stands for.

    Raises:
        InvalidValue: it is no whole number from 1 to 65535.
    """
    remedy = "use a whole number from 1 to 65535"
    if isinstance(value, str) and _PORT.fullmatch(value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidValue(what, value, "is no port", remedy)
    if not 1 <= value <= 65535:
        raise InvalidValue(what, value, "is out of range", remedy)
    return value


def _host_and_port(netloc: str, shown: str) -> tuple[str, int | None]:
    if netloc.startswith("["):
        address, bracket, rest = netloc[1:].partition("]")
        try:
            host = str(ipaddress.IPv6Address(address))
        except ValueError:
            bracket = ""
        if not bracket or (rest and not rest.startswith(":")):
            raise InvalidValue("node address", shown, "holds no valid IPv6 address in its brackets", _REMEDY)
        colon, port = rest[:1], rest[1:]
    else:
        name, colon, port = netloc.partition(":")
        if ":" in port:
            raise InvalidValue(
                "node address", shown, "has more than one colon in its host", "put an IPv6 address in brackets"
            )
        host = _host_name(name, shown)
    if not colon:
        return host, None
    if not _PORT.fullmatch(port) or int(port) > 65535:
        raise InvalidValue("node address", shown, f"has the port {port[:20]!r}", "use a port from 1 to 65535")
    return host, int(port)


def _host_name(name: str, shown: str) -> str:
    host = normalise_hostname(name)
    labels = host.split(".")
    if not host:
        raise InvalidValue("node address", shown, "has no host", _REMEDY)
    if len(host) > 253 or not all(_HOST_LABEL.fullmatch(label) for label in labels):
        raise InvalidValue("node address", shown, "has no valid host", _REMEDY)
    if labels[-1].isdigit():
        try:
            return str(ipaddress.IPv4Address(host))
        except ValueError:
            raise InvalidValue("node address", shown, "holds no valid IPv4 address", _REMEDY) from None
    return host


def is_loopback(host: str) -> bool:
    """Tell whether a host (a name, or an address without brackets) is this machine's loopback."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
