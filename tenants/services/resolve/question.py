"""The question to the route tester: a user's connection."""

from __future__ import annotations

from dataclasses import dataclass

from relay.config.addresses import check_port
from relay.config.client_address import ClientAddress, parse_client_address
from relay.config.hostnames import normalise_hostname
from relay.errors import InvalidValue
from relay.routing import TransportName


@dataclass(frozen=True, slots=True)
class Question:
    """A user's connection.

    Attributes:
        hostname: in normal form; ``tcp:PORT`` or ``udp:PORT`` for a claimed port.
        port: the public port.
        client: the user's address; None where the access lists are not asked about one.
    """

    hostname: str
    port: int
    transport: TransportName
    client: ClientAddress | None = None

    @property
    def wildcard(self) -> str:
        """The pattern whose ``*`` matches the first label; empty where no wildcard fits."""
        label, dot, parent = self.hostname.partition(".")
        return f"*.{parent}" if label and dot and label != "*" else ""

    @property
    def claimed_port(self) -> str:
        """The claim of the port alone, as a node writes it: ``tcp:25``."""
        return f"{self.transport}:{self.port}"

    def __str__(self) -> str:
        return f"{self.hostname} at {self.transport} port {self.port}"


def parse_question(host: str, port: object, client_ip: str = "", transport: str = "tcp") -> Question:
    """Read what a user asks.

    Raises:
        InvalidValue: a value is not usable; names it.
    """
    if transport not in ("tcp", "udp"):
        raise InvalidValue("transport", transport, "is not known", "write tcp or udp")
    number = check_port(port, "public port")
    if len(host) > 1024 or not host.isprintable():
        raise InvalidValue("hostname", host, "holds what no hostname does", "write a name such as app.example.com")
    name = normalise_hostname(host)
    kind, colon, claimed = name.partition(":")
    if colon and kind in ("tcp", "udp"):
        if kind != transport or claimed != str(number):
            remedy = f"write {transport}:{number}, or ask for that port"
            raise InvalidValue("hostname", host, "names another port than the one that is asked for", remedy)
    elif transport == "udp":
        name = f"udp:{number}"  # a datagram has no hostname: nodes go by the port
    client = None
    if client_ip:
        client = parse_client_address(client_ip.strip())
        if client is None:
            raise InvalidValue("client address", client_ip, "is no IP address", "write 203.0.113.9 or 2001:db8::1")
    return Question(name, number, "udp" if transport == "udp" else "tcp", client)
