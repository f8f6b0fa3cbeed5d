"""Reads configuration files: everything that is wrong is said at once, with its place."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from pathlib import Path
from types import MappingProxyType
from typing import Final

from relay.config import UdpRoute
from relay.configfile import nodes
from relay.configfile.credentials import ATTESTATION_KEYS, read_credential
from relay.configfile.document import BackendDocument, ConfigDocument, PortMappingDocument
from relay.configfile.fields import GROUPS, gather, keys_of, read_group, read_members
from relay.configfile.lenient import Understood, read_hostname, read_node_address
from relay.configfile.nodes import Node, Scalar
from relay.configfile.port_mappings import MAPPING_KEYS, read_port_mappings
from relay.configfile.problems import ConfigFileError, Problem, child
from relay.configfile.values import Values, is_empty
from relay.errors import shorten
from relay.text import decode, printable

MAX_BYTES: Final = 64 * 1024 * 1024
"""Size of the largest file that is read; 10,000 backends with ten host routes each take about 10 MiB."""

_BACKENDS = "write backends: and under it a list of backends"
_KEYS = frozenset(
    {"name", "hostname", "hostnames", "tcpPorts", "udpRoutes", "nexusAddresses", "authToken", "portMappings"}
    | keys_of("")
)
_PLACES = (
    {key: group for group in GROUPS for key in keys_of(group)}
    | dict.fromkeys(_KEYS, "backend")
    | dict.fromkeys(ATTESTATION_KEYS, "attestation")
    | dict.fromkeys(MAPPING_KEYS, "port mapping")
    | {"backends": "top level"}
)
_NAME_LIMIT: Final = 200


def read_config_file(path: str | os.PathLike[str], *, allow_insecure: bool = False) -> ConfigDocument:
    """Read and check a configuration file.

    Args:
        path: the file.
        allow_insecure: take ``ws://`` node addresses beyond loopback.

    Raises:
        ConfigFileError: the file cannot be read, or holds what cannot be used; with every problem found.
    """
    name = os.fspath(path)

    def fail(message: str) -> ConfigFileError:
        return ConfigFileError([Problem(name, 0, 0, "", message)])

    try:
        with Path(name).open("rb") as file:
            # One byte more than allowed tells a large file; pipes and devices have no size to ask for.
            data = file.read(MAX_BYTES + 1) if os.fstat(file.fileno()).st_size <= MAX_BYTES else None
    except IsADirectoryError:
        raise fail("is a directory: name the file in it") from None
    except FileNotFoundError:
        raise fail("does not exist: check the path") from None
    except PermissionError:
        raise fail("may not be read: let this user read it") from None
    except OSError as error:
        reason = os.strerror(error.errno or errno.EIO)
        raise fail(f"cannot be read ({reason}): check the path") from None
    except ValueError:  # a NUL in the path
        raise fail("is not a path: check it") from None
    if data is None or len(data) > MAX_BYTES:
        raise fail(f"is larger than {MAX_BYTES // 2**20} MiB: split it into several files")
    return parse_config(data, name, allow_insecure=allow_insecure)


def parse_config(text: bytes, filename: str, *, allow_insecure: bool = False) -> ConfigDocument:
    """Read and check the text of a configuration file.

    Args:
        text: UTF-8, or UTF-16 with a byte order mark.
        filename: for messages.
        allow_insecure: take ``ws://`` node addresses beyond loopback.

    Raises:
        ConfigFileError: it holds what cannot be used; with every problem found.
    """
    if len(text) > MAX_BYTES:
        message = f"is larger than {MAX_BYTES // 2**20} MiB: split it into several files"
        raise ConfigFileError([Problem(filename, 0, 0, "", message)])
    tree = nodes.parse_nodes(_decode(text, filename), filename)
    reader = _Reader(filename, tree, allow_insecure=allow_insecure)
    backends = reader.document(tree.root)
    if reader.problems:
        raise ConfigFileError(reader.problems)
    return ConfigDocument(
        backends=backends,
        filename=filename,
        positions=MappingProxyType(reader.positions),
        warnings=_each_once(reader.warnings),
    )


def _each_once(warnings: Iterable[Problem]) -> tuple[Problem, ...]:
    """Return warnings in the order of the file; those of a value that several aliases repeat are one."""
    found: dict[tuple[int, int, str], Problem] = {}
    for each in sorted(warnings, key=lambda warning: (warning.line, warning.column)):
        found.setdefault((each.line, each.column, each.message), each)
    return tuple(found.values())


def _decode(data: bytes, filename: str) -> str:
    try:
        text = decode(data)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        message = f"is not text in {error.encoding.upper()} (byte {error.start}): save it as UTF-8"
        raise ConfigFileError([Problem(filename, line, 1, "", message)]) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise ConfigFileError([Problem(filename, line, 1, "", "is a binary file: name a YAML file in UTF-8")])
    return text


def _names_in(items: Iterable[tuple[int, Node]]) -> Iterator[str]:
    """Yield the names that a file gives its backends."""
    for _, item in items:
        found = item.members.get("name") if isinstance(item, nodes.Mapping) else None
        if found is not None and isinstance(found[1], Scalar):
            yield _name_of(found[1].text)


def _name_of(text: str) -> str:
    """Return a backend's name as it is kept: one line, and not too long."""
    return printable(text.strip())[:_NAME_LIMIT].strip()


class _Reader(Values):
    """Reads what a file says, from the top down."""

    def __init__(self, filename: str, tree: nodes.Tree, *, allow_insecure: bool) -> None:
        super().__init__(filename, tree.problems, tree.warnings, places=_PLACES)
        self._allow_insecure = allow_insecure

    def document(self, root: Node | None) -> tuple[BackendDocument, ...]:
        if root is None or (isinstance(root, Scalar) and root.is_null):
            self.problems.append(Problem(self.filename, 1, 1, "", f"is empty: {_BACKENDS}"))
            return ()
        members = self.mapping(root, "", {"backends"}, _BACKENDS)
        if members is None:
            return ()
        if "backends" not in members:
            self.note(root, "backends", f"is missing: {_BACKENDS}")
            return ()
        items = self.items(members["backends"][1], "backends", _BACKENDS)
        if not items and not self.problems:
            self.note(members["backends"][1], "backends", "is an empty list: give at least one backend")
        backends: list[BackendDocument] = []
        names: dict[str, int] = dict.fromkeys(_names_in(items), 0)
        for index, item in items:
            path = child("backends", index)
            self.keep(path, item)
            backend = self.backend(item, path, names)
            if backend is not None:
                backends.append(backend)
        return tuple(backends)

    def backend(self, node: Node, path: str, names: dict[str, int]) -> BackendDocument | None:
        known = len(self.problems)
        members = self.mapping(node, path, _KEYS, "write a mapping with name:, nexusAddresses:, portMappings: …")
        if members is None:
            return None
        values = {key: value for key, (_, value) in members.items()}
        name = self._name(node, values, path, names)
        hostnames = self._hostnames(values, path)
        tcp_ports = self.ports(values["tcpPorts"], child(path, "tcpPorts")) if "tcpPorts" in values else ()
        udp_routes = self._udp_routes(values, path)
        if not hostnames and not tcp_ports and not udp_routes and len(self.problems) == known:
            self.note(node, child(path, "hostnames"), "is missing: give hostnames:, or claim tcpPorts: or udpRoutes:")
        addresses = self._addresses(node, values, path)
        udp_ports = {route.port for route in udp_routes}
        mappings = read_port_mappings(self, node, values, path, frozenset(tcp_ports), frozenset(udp_ports))
        credential, found = read_credential(self, node, values, path, hostnames)
        found |= read_members(self, members, path, "")
        for group in GROUPS.keys() & values.keys() - {"attestation"}:
            found |= read_group(self, values[group], child(path, group), group)
        self._unmapped(node, path, mappings, tcp_ports, udp_routes)
        if len(self.problems) > known or name is None:
            return None
        settings = gather(found)
        return BackendDocument(
            name=name,
            hostnames=hostnames,
            nexus_addresses=addresses,
            port_mappings=mappings,
            credential=credential,
            tcp_ports=tcp_ports,
            udp_routes=udp_routes,
            **settings.pop("claims"),
            **settings,
        )

    # -- who it is and what it claims

    def _name(self, node: Node, values: dict[str, Node], path: str, names: dict[str, int]) -> str | None:
        what = "give the backend a name"
        if "name" not in values:
            self.note(node, child(path, "name"), f"is missing: {what}")
            return None
        found = values["name"]
        self.keep(child(path, "name"), found)
        text = self.text(found, child(path, "name"), what, limit=MAX_BYTES)
        if text is None:
            return None
        name = _name_of(text)
        if not name:
            self.note(found, child(path, "name"), f"is empty: {what}")
            return None
        if name != text.strip():
            message = "holds control characters, or more than {} characters: this backend is called {!r}"
            self.warn(found, child(path, "name"), message.format(_NAME_LIMIT, shorten(name)))
        first = names.get(name)
        if first:
            number = next(number for number in count(2) if f"{name[: _NAME_LIMIT - 10]}-{number}" not in names)
            other = f"{name[: _NAME_LIMIT - 10]}-{number}"
            message = f"{name!r} is the name of another backend too (in line {first}): this one is called {other!r}"
            self.warn(found, child(path, "name"), message)
            name = other
        names[name] = found.line
        return name

    def _hostnames(self, values: dict[str, Node], path: str) -> tuple[str, ...]:
        single, several = values.get("hostname"), values.get("hostnames")
        if single is not None and isinstance(single, Scalar) and not single.text.strip():
            single = None
        names: tuple[str, ...] = ()
        if several is not None:
            names = self.distinct(
                several, child(path, "hostnames"), "write a list, as in [app.example.com]", "hostname", read_hostname
            )
        if single is None:
            return names
        where = child(path, "hostname")
        name = self.understood(single, where, "write one name, as in app.example.com", read_hostname)
        self.keep(where, single)
        if name is not None and names and name not in names:
            self.warn(single, where, "is given beside hostnames: it is added to them")
        return names if name is None or name in names else (*names, name)

    def _addresses(self, node: Node, values: dict[str, Node], path: str) -> tuple[str, ...]:
        where, what = child(path, "nexusAddresses"), 'write a list, as in ["wss://nexus.example.com/connect"]'
        found = values.get("nexusAddresses")
        if found is None or is_empty(found):
            self.note(found or node, where, f"is missing: {what}")
            return ()
        known = len(self.problems)
        addresses = self.distinct(found, where, what, "node address", self._read_address)
        if not addresses and len(self.problems) == known:
            self.note(found, where, f"is missing: {what}")
        return addresses

    def _read_address(self, text: str) -> Understood:
        return read_node_address(text, allow_insecure=self._allow_insecure)

    def _udp_routes(self, values: dict[str, Node], path: str) -> tuple[UdpRoute, ...]:
        if "udpRoutes" not in values:
            return ()
        where, what = child(path, "udpRoutes"), "write a list, as in [{port: 53, flowIdleTimeoutSeconds: 60}]"
        routes: dict[int, UdpRoute] = {}
        for index, item in self.items(values["udpRoutes"], where, what):
            place = child(where, index)
            members = self.mapping(item, place, {"port", "flowIdleTimeoutSeconds"}, what)
            if members is None:
                continue
            if "port" not in members:
                self.note(item, child(place, "port"), "is missing: give the public UDP port")
                continue
            port = self.port(members["port"][1], child(place, "port"))
            timeout = None
            if "flowIdleTimeoutSeconds" in members:
                idle = members["flowIdleTimeoutSeconds"][1]
                timeout = self.whole(idle, child(place, "flowIdleTimeoutSeconds"), 0, " of seconds")
            if port in routes:
                self.note(item, place, f"the port {port} stands twice: keep one")
            elif port is not None:
                routes[port] = UdpRoute(port, timeout or None)
        return tuple(routes[port] for port in sorted(routes))

    def _unmapped(
        self,
        node: Node,
        path: str,
        mappings: Sequence[PortMappingDocument],
        tcp_ports: Sequence[int],
        udp_routes: Sequence[UdpRoute],
    ) -> None:
        mapped = {mapping.port for mapping in mappings if mapping.default is not None}
        for key, ports in (("tcpPorts", tcp_ports), ("udpRoutes", [route.port for route in udp_routes])):
            for port in ports:
                if port not in mapped:
                    self.warn(
                        node,
                        child(path, key),
                        f"port {port} is claimed and has no default target: its streams will be refused until "
                        f"portMappings has {port}",
                    )
