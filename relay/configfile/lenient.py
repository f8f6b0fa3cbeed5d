"""Names and addresses as files have them: what the files' own client takes, in the form that this program has for it.

Each function returns the normal form and, where that is not what was written, a remark in words. What could not work
at any node, or would be unsafe, raises `relay.errors.InvalidValue`, as the strict checks do.
"""

from __future__ import annotations

import re
import socket
from functools import lru_cache
from typing import Final, NamedTuple

from relay.config.addresses import check_node_address, without_query
from relay.config.served_names import check_served_name, oddity
from relay.config.targets import parse_target, parse_targets
from relay.errors import InvalidValue

_ADDRESS_LIMIT: Final = 500
_SCHEMES: Final = {"http": "ws", "https": "wss"}
_SCHEME: Final = re.compile(r"(https?)(?=://)", re.IGNORECASE)
_ZEROS: Final = re.compile(r"(://[^/?#@]*:)0+(?=[1-9][0-9]*(?:[/?#]|$))", re.ASCII)
_PORT: Final = re.compile(r"\+?0*([0-9]{1,5})", re.ASCII)
_SERVICE: Final = re.compile(r"[a-z][a-z0-9-]*", re.IGNORECASE | re.ASCII)
_SERVICES: Final = {
    "domain": 53, "ftp": 21, "http": 80, "https": 443, "imap": 143, "imaps": 993, "pop3": 110, "pop3s": 995,
    "smtp": 25, "ssh": 22, "submission": 587, "submissions": 465, "telnet": 23,
}  # fmt: skip
"""Where the machine has no list of its own (small containers)."""


class Understood(NamedTuple):
    """A text in its normal form.

    Attributes:
        remark: what a warning says of it; empty where it was written so.
    """

    value: str
    remark: str = ""


def read_hostname(text: str) -> Understood:
    """Return a name that a backend claims.

    Raises:
        InvalidValue: it is none.
    """
    name = check_served_name(text)
    odd = oddity(name)
    return Understood(name, f"the hostname {name!r} {odd}" if odd else "")


def read_targets(text: str) -> Understood:
    """Return targets with commas between them.

    A target without a host is one of localhost, and ports may be names of services or begin with zeros.

    Raises:
        InvalidValue: one of them is none.
    """
    parts = [_host_and_port(part.strip(), "localhost") for part in text.split(",")]
    targets = ",".join(str(target) for target in parse_targets(",".join(parts)))
    changed = any(new != old.strip() for new, old in zip(parts, text.split(","), strict=True))
    return Understood(targets, f"is taken as {targets}" if changed else "")


def read_listen_address(text: str) -> Understood:
    """Return an address to listen at; without a host it is one of loopback, and never all interfaces.

    Raises:
        InvalidValue: it is none.
    """
    found = _host_and_port(text.strip(), "127.0.0.1")
    target = parse_target(found)
    if target.kind != "tcp":
        raise InvalidValue("listen address", text, "is not a host and port", "write host:port, as in 127.0.0.1:1080")
    loopback = text.strip().startswith(":")
    remark = f"is taken as {target}{', on loopback alone' if loopback else ''}" if found != text.strip() else ""
    return Understood(str(target), remark)


def read_node_address(text: str, *, allow_insecure: bool = False) -> Understood:
    """Return a node's address.

    ``http`` and ``https`` stand for ``ws`` and ``wss``; a fragment, which no request carries, is left out.

    Raises:
        InvalidValue: it is none, or unsafe (`relay.config.addresses.check_node_address`).
    """
    remarks = []
    written = text.strip()
    found, _, fragment = written.partition("#")
    if "@" in fragment:
        found = written  # it may be the rest of a password: the strict check says so
    elif fragment:
        remarks.append("its fragment (#) is left out")
    found = _ZEROS.sub(r"\1", found)
    scheme = _SCHEME.match(found)
    if scheme:
        found = _SCHEMES[scheme[1].lower()] + found[scheme.end() :]
    address = check_node_address(found, allow_insecure=allow_insecure)
    if len(address) > _ADDRESS_LIMIT:
        raise InvalidValue(
            "node address", without_query(address), f"has {len(address)} characters", f"keep it to {_ADDRESS_LIMIT}"
        )
    if scheme:
        remarks.append(f"is taken as {without_query(address)}")
    if "?" in address:
        remarks.append("its query (?) is kept, and sent to the node with each session")
    return Understood(address, "; ".join(remarks))


def _host_and_port(text: str, local: str) -> str:
    """Return the text with its host and port written out; as it is where it has no such parts."""
    host, colon, port = text.rpartition(":")
    if not colon or "/" in text or text[:5].lower() == "unix:":
        return text
    number = _PORT.fullmatch(port)
    if number:
        port = str(int(number[1]))
    elif _SERVICE.fullmatch(port):
        port = _port_of(port.lower()) or port
    return f"{host or local}:{port}"


@lru_cache(maxsize=1024)
def _port_of(service: str) -> str:
    """Return the port of a service's name; empty where no such service is known."""
    try:
        return str(socket.getservbyname(service, "tcp"))
    except OSError:
        return str(_SERVICES.get(service, ""))
