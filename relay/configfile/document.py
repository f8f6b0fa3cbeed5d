"""What a configuration file says: frozen, normalised, comparable (docs/protocol.md, "Configuration file")."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from relay.config import BackendSettings, Credential, UdpRoute
from relay.config.port_options import PortOptions
from relay.configfile.problems import Problem


@dataclass(frozen=True, slots=True)
class PortMappingDocument:
    """Where the streams of one public port go.

    Attributes:
        port: the public port.
        default: targets where no host matches; None for no route.
        hosts: pairs of host pattern and targets, by pattern.
        options: how the port's streams are carried.
    """

    port: int
    default: str | None = None
    hosts: tuple[tuple[str, str], ...] = ()
    options: PortOptions = PortOptions()


@dataclass(frozen=True, slots=True)
class BackendDocument(BackendSettings):
    """One backend of a file. Hostnames and addresses keep their order, everything else is sorted.

    Attributes:
        credential: a `PresignedToken` for ``authToken``, another kind for ``attestation``; None only for a document
            that was not read from a file.
        outbound_allowed, allowed_outbound_ports: of ``attestation``; a pre-signed token says it itself.
    """

    name: str
    hostnames: tuple[str, ...]
    nexus_addresses: tuple[str, ...]
    port_mappings: tuple[PortMappingDocument, ...]
    credential: Credential | None
    tcp_ports: tuple[int, ...] = ()
    udp_routes: tuple[UdpRoute, ...] = ()
    weight: int = 1
    outbound_allowed: bool = False
    allowed_outbound_ports: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ConfigDocument:
    """A whole file. Two documents are equal when they say the same, wherever it stands.

    Attributes:
        backends: in the order of the file.
        filename: as the user named it; empty for a document that was not read from a file.
        positions: line and column (from 1) of the paths that `problem` can point at.
        warnings: what is allowed and probably not meant.
    """

    backends: tuple[BackendDocument, ...]
    filename: str = field(default="", compare=False)
    positions: Mapping[str, tuple[int, int]] = field(
        default_factory=lambda: MappingProxyType({}), compare=False, repr=False
    )
    warnings: tuple[Problem, ...] = field(default=(), compare=False)

    def problem(self, path: str, message: str) -> Problem:
        """Return a problem with the value at ``path``, at its place in the file or that of what holds it."""
        place = path
        while place and place not in self.positions:
            cut = max(place.rfind("."), place.rfind("["))
            place = place[: max(cut, 0)]
        line, column = self.positions.get(place, (0, 0))
        return Problem(self.filename, line, column, path, message)
