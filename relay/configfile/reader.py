"""Reads configuration files: everything that is wrong is said at once, with its place."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from relay.config import (
    AttestationOptions,
    Credential,
    FlowControlOptions,
    HealthCheckOptions,
    HmacSecret,
    HmacSecretFile,
    Limits,
    PresignedToken,
    Removal,
    TokenCommand,
    UdpRoute,
)
from relay.config.addresses import check_node_address, check_port
from relay.config.hostnames import check_hostname, normalise_pattern
from relay.config.targets import parse_target, parse_targets
from relay.configfile import extras, nodes
from relay.configfile.document import BackendDocument, ConfigDocument, PortMappingDocument
from relay.configfile.nodes import Node, Scalar
from relay.configfile.problems import ConfigFileError, Problem, child
from relay.configfile.values import Values, describe
from relay.errors import InvalidValue
from relay.tokens.claims import parse_claims

MAX_BYTES: Final = 64 * 1024 * 1024
"""Size of the largest file that is read; 10,000 backends with ten host routes each take about 10 MiB."""

_BACKENDS = "write backends: and under it a list of backends"
_KEYS = frozenset(
    {"name", "hostname", "hostnames", "tcpPorts", "udpRoutes", "nexusAddresses", "weight", "authToken", "attestation"}
    | {"portMappings", "healthChecks", "flowControl", "socks5ListenAddr"}
    | extras.BACKEND_KEYS
)
_ATTESTATION_KEYS = frozenset(
    {"command", "args", "env", "timeoutSeconds", "hmacSecret", "hmacSecretFile"}
    | {"cacheHandshakeSeconds", "tokenTTLSeconds", "handshakeMaxAgeSeconds"}
    | {"reauthIntervalSeconds", "reauthGraceSeconds", "maintenanceGraceCapSeconds"}
    | {"authorizerStatusUri", "policyVersion", "outboundAllowed", "allowedOutboundPorts"}
)
_HEALTH_KEYS = frozenset({"enabled", "inactivityTimeout", "pongTimeout"})
_PLACES = (
    dict.fromkeys(_KEYS, "backend")
    | dict.fromkeys(_ATTESTATION_KEYS, "attestation")
    | dict.fromkeys(_HEALTH_KEYS, "healthChecks")
    | dict.fromkeys(("highWaterMark", "lowWaterMark", "maxBuffer"), "flowControl")
    | dict.fromkeys(extras.PORT_KEYS, "port mapping")
    | {"default": "port mapping", "hosts": "port mapping", "backends": "top level"}
)
_COMMAND_TIMEOUT: Final = 15
_NAME_LIMIT: Final = 200
_PATH_LIMIT: Final = 500
_SECRET_LIMIT: Final = 64 * 1024


def read_config_file(path: str | os.PathLike[str], *, allow_insecure: bool = False) -> ConfigDocument:
    """Read and check a configuration file.

    Args:
        path: the file.
        allow_insecure: take ``ws://`` node addresses beyond loopback.

    Raises:
        ConfigFileError: the file can not be read, or holds what can not be used; with every problem found.
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
        raise fail(f"can not be read ({reason}): check the path") from None
    except ValueError:  # a NUL in the path
        raise fail("is no path: check it") from None
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
        ConfigFileError: it holds what can not be used; with every problem found.
    """
    if len(text) > MAX_BYTES:
        message = f"is larger than {MAX_BYTES // 2**20} MiB: split it into several files"
        raise ConfigFileError([Problem(filename, 0, 0, "", message)])
    root, problems = nodes.parse_nodes(_decode(text, filename), filename)
    reader = _Reader(filename, problems, allow_insecure=allow_insecure)
    backends = reader.document(root)
    if reader.problems:
        raise ConfigFileError(reader.problems)
    return ConfigDocument(
        backends=backends,
        filename=filename,
        positions=MappingProxyType(reader.positions),
        warnings=tuple(sorted(reader.warnings, key=lambda warning: (warning.line, warning.column))),
    )


def _decode(data: bytes, filename: str) -> str:
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        message = f"is not text in {encoding.removesuffix('-sig').upper()} (byte {error.start}): save it as UTF-8"
        raise ConfigFileError([Problem(filename, line, 1, "", message)]) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise ConfigFileError([Problem(filename, line, 1, "", "is a binary file: name a YAML file in UTF-8")])
    return text


class _Reader(Values):
    """Reads what a file says, from the top down."""

    def __init__(self, filename: str, problems: list[Problem], *, allow_insecure: bool) -> None:
        super().__init__(filename, problems, places=_PLACES)
        self._allow_insecure = allow_insecure
        self._now = time.time()
        # A file of many backends repeats its addresses and targets.
        self._known: dict[tuple[Callable[[str], Any], str], Any] = {}

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
        names: dict[str, int] = {}
        for index, item in enumerate(items):
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
        tcp_ports = self._ports(values, path, "tcpPorts")
        udp_routes = self._udp_routes(values, path)
        if not hostnames and not tcp_ports and not udp_routes and len(self.problems) == known:
            self.note(node, child(path, "hostnames"), "is missing: give hostnames:, or claim tcpPorts: or udpRoutes:")
        addresses = self._addresses(node, values, path)
        mappings = self._port_mappings(node, values, path, {route.port for route in udp_routes})
        credential, options, outbound, outbound_ports = self._credential(node, values, path, hostnames)
        weight = self.whole(values["weight"], child(path, "weight"), 1) if "weight" in values else 1
        health = self._health_checks(values, path)
        flow = self._flow_control(values, path)
        socks5 = self._socks5(values, path)
        limits, removal = Limits(), Removal()
        if "limits" in values:
            limits = extras.read_limits(self, values["limits"], child(path, "limits"))
        if "removal" in values:
            removal = extras.read_removal(self, values["removal"], child(path, "removal"))
        self._unmapped(node, path, mappings, tcp_ports, udp_routes)
        if len(self.problems) > known or name is None or weight is None:
            return None
        return BackendDocument(
            name=name,
            hostnames=hostnames,
            nexus_addresses=addresses,
            port_mappings=mappings,
            credential=credential,
            tcp_ports=tcp_ports,
            udp_routes=udp_routes,
            weight=weight,
            attestation=options,
            outbound_allowed=outbound,
            allowed_outbound_ports=outbound_ports,
            health_checks=health,
            flow_control=flow,
            socks5_listen_addr=socks5,
            limits=limits,
            removal=removal,
        )

    # -- who it is and what it claims

    def _name(self, node: Node, values: dict[str, Node], path: str, names: dict[str, int]) -> str | None:
        what = "give the backend a name"
        if "name" not in values:
            self.note(node, child(path, "name"), f"is missing: {what}")
            return None
        found = values["name"]
        self.keep(child(path, "name"), found)
        name = self.line(found, child(path, "name"), what, limit=_NAME_LIMIT)
        if name is None:
            return None
        if not name:
            self.note(found, child(path, "name"), f"is empty: {what}")
            return None
        if name in names:
            self.note(found, child(path, "name"), f"{name!r} stands twice (first in line {names[name]}): rename one")
        names.setdefault(name, found.line)
        return name

    def _hostnames(self, values: dict[str, Node], path: str) -> tuple[str, ...]:
        single, several = values.get("hostname"), values.get("hostnames")
        if single is not None and isinstance(single, Scalar) and not single.text.strip():
            single = None
        if single is not None and several is not None and not _is_empty(several):
            self.note(single, child(path, "hostname"), "stands beside hostnames: move the name into that list")
            return ()
        if single is not None:
            where = child(path, "hostname")
            name = self._same(single, where, "write one name, as in app.example.com", check_hostname)
            self.keep(where, single)
            return (name,) if name is not None else ()
        if several is None:
            return ()
        return self._distinct(
            several, child(path, "hostnames"), "write a list, as in [app.example.com]", "hostname", check_hostname
        )

    def _addresses(self, node: Node, values: dict[str, Node], path: str) -> tuple[str, ...]:
        where, what = child(path, "nexusAddresses"), 'write a list, as in ["wss://nexus.example.com/connect"]'
        found = values.get("nexusAddresses")
        if found is None or _is_empty(found):
            self.note(found or node, where, f"is missing: {what}")
            return ()
        return self._distinct(found, where, what, "node address", self._check_address)

    def _check_address(self, text: str) -> str:
        address = check_node_address(text, allow_insecure=self._allow_insecure)
        if len(address) > _PATH_LIMIT:
            raise InvalidValue("node address", address, f"has {len(address)} characters", f"keep it to {_PATH_LIMIT}")
        return address

    def _distinct(self, node: Node, path: str, what: str, noun: str, check: Callable[[str], str]) -> tuple[str, ...]:
        found: dict[str, Node] = {}
        for index, item in enumerate(self.items(node, path, what)):
            where = child(path, index)
            value = self._same(item, where, what, check)
            if value is None:
                continue
            self.keep(where, item)
            if value in found:
                self.note(
                    item, where, f"the {noun} {value!r} stands twice (first in line {found[value].line}): keep one"
                )
            found.setdefault(value, item)
        return tuple(found)

    def _same(self, node: Node, path: str, what: str, check: Callable[[str], Any]) -> Any:
        """As `checked`, remembering what the same text gave."""
        if isinstance(node, Scalar) and not node.is_null:
            known = self._known.get((check, node.text))
            if known is not None:
                return known
            value = self.checked(node, path, what, check)
            if value is not None:
                self._known[(check, node.text)] = value
            return value
        return self.checked(node, path, what, check)

    def _port(self, node: Node, path: str, what: str = "port") -> int | None:
        if isinstance(node, Scalar) and node.plain and len(node.text) > 1 and node.text.startswith("0"):
            self.note(node, path, f"is {describe(node)}, an octal number in YAML: write the port in plain digits")
            return None
        return self.checked(node, path, "write a port from 1 to 65535", lambda text: check_port(text, what))

    def _ports(self, values: dict[str, Node], path: str, key: str) -> tuple[int, ...]:
        if key not in values:
            return ()
        where = child(path, key)
        ports: set[int] = set()
        for index, item in enumerate(self.items(values[key], where, "write a list of ports, as in [53]")):
            port = self._port(item, child(where, index))
            if port in ports:
                self.note(item, child(where, index), f"the port {port} stands twice: keep one")
            elif port is not None:
                ports.add(port)
        return tuple(sorted(ports))

    def _udp_routes(self, values: dict[str, Node], path: str) -> tuple[UdpRoute, ...]:
        if "udpRoutes" not in values:
            return ()
        where, what = child(path, "udpRoutes"), "write a list, as in [{port: 53, flowIdleTimeoutSeconds: 60}]"
        routes: dict[int, UdpRoute] = {}
        for index, item in enumerate(self.items(values["udpRoutes"], where, what)):
            place = child(where, index)
            members = self.mapping(item, place, {"port", "flowIdleTimeoutSeconds"}, what)
            if members is None:
                continue
            if "port" not in members:
                self.note(item, child(place, "port"), "is missing: give the public UDP port")
                continue
            port = self._port(members["port"][1], child(place, "port"))
            timeout = self._seconds(
                {key: value for key, (_, value) in members.items()}, place, "flowIdleTimeoutSeconds", 0
            )
            if port in routes:
                self.note(item, place, f"the port {port} stands twice: keep one")
            elif port is not None:
                routes[port] = UdpRoute(port, timeout or None)
        return tuple(routes[port] for port in sorted(routes))

    # -- where its streams go

    def _port_mappings(
        self, node: Node, values: dict[str, Node], path: str, udp_ports: Collection[int]
    ) -> tuple[PortMappingDocument, ...]:
        where, what = child(path, "portMappings"), 'write public ports and targets, as in 443: "localhost:8443"'
        found = values.get("portMappings")
        if found is None or (isinstance(found, nodes.Mapping) and not found.members):
            self.note(found or node, where, f"is missing: {what}")
            return ()
        mappings: dict[int, PortMappingDocument] = {}
        for key, value in (self.mapping(found, where, None, what) or {}).values():
            place = child(where, key.text)
            port = self._port(key, place, "public port")
            mapping = self._port_mapping(value, place, port or 0, port in udp_ports)
            if port in mappings:
                self.note(key, place, f"the port {port} stands twice: keep one")
            elif port is not None and mapping is not None:
                mappings[port] = mapping
        return tuple(mappings[port] for port in sorted(mappings))

    def _port_mapping(self, node: Node, path: str, port: int, udp: bool) -> PortMappingDocument | None:
        what = 'write "host:port", or a mapping with default: and hosts:'
        if isinstance(node, nodes.Sequence):
            target = self._targets(node, path)
            return None if target is None else PortMappingDocument(port, target)
        self.keep(path, node)
        if isinstance(node, Scalar) and not node.is_null:
            target = self._same(node, path, what, _targets)
            return None if target is None else PortMappingDocument(port, target)
        known = len(self.problems)
        members = self.mapping(node, path, {"default", "hosts"} | extras.PORT_KEYS, what)
        if members is None:
            return None
        options = extras.read_port_options(self, members, path, udp=udp)
        default = None
        if "default" in members and not _is_empty(members["default"][1]):
            default = self._targets(members["default"][1], child(path, "default"))
        hosts: dict[str, tuple[str, Scalar]] = {}
        if "hosts" in members:
            where = child(path, "hosts")
            for key, value in (
                self.mapping(
                    members["hosts"][1], where, None, 'write hostnames and targets, as in a.example.com: "localhost:80"'
                )
                or {}
            ).values():
                place = child(where, key.text)
                pattern = self._same(key, place, "write a hostname", check_hostname)
                target = self._targets(value, place)
                if pattern is not None:
                    self.keep(child(where, pattern), value)
                if pattern in hosts:
                    self.note(key, place, f"is {pattern} again (first in line {hosts[pattern][1].line}): keep one")
                elif pattern is not None and target is not None:
                    hosts[pattern] = (target, key)
        if default is None and not hosts and len(self.problems) == known:
            self.note(node, path, "has neither default nor hosts: give a default target or host routes")
        routes = tuple((pattern, hosts[pattern][0]) for pattern in sorted(hosts))
        return PortMappingDocument(port, default, routes, options)

    def _targets(self, node: Node, path: str) -> str | None:
        """Return a route's targets: a text, with commas between several, or a list."""
        what = 'write a target, as in "localhost:8443", or a list of targets'
        self.keep(path, node)
        if not isinstance(node, nodes.Sequence):
            found: str | None = self._same(node, path, what, _targets)
            return found
        read = [self._same(item, f"{path}[{index}]", what, _targets) for index, item in enumerate(node.items)]
        if not read:
            self.note(node, path, f"is empty: {what}")
        if not read or None in read:
            return None
        try:
            return _targets(",".join(read))
        except InvalidValue as error:
            self.note(node, path, str(error))
            return None

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

    # -- how it authenticates

    def _credential(
        self, node: Node, values: dict[str, Node], path: str, hostnames: Sequence[str]
    ) -> tuple[Credential | None, AttestationOptions, bool, tuple[int, ...]]:
        token, attestation = values.get("authToken"), values.get("attestation")
        nothing = (None, AttestationOptions(), False, ())
        if token is not None and isinstance(token, Scalar) and not token.text.strip():
            token = None
        if token is not None and attestation is not None:
            self.note(token, child(path, "authToken"), "stands beside attestation: keep one of the two")
            return nothing
        if attestation is not None:
            self.keep(child(path, "attestation"), attestation)
            return self._attestation(attestation, child(path, "attestation"))
        if token is None:
            self.note(node, path, "has no credential: give authToken: or attestation:")
            return nothing
        return self._token(token, child(path, "authToken"), hostnames), AttestationOptions(), False, ()

    def _token(self, node: Node, path: str, hostnames: Sequence[str]) -> PresignedToken | None:
        self.keep(path, node)
        text = self.text(node, path, "write the complete signed token (a JWT)", limit=_SECRET_LIMIT, secret=True)
        if text is None:
            return None
        try:
            found = parse_claims(text)
        except InvalidValue as error:
            self.note(node, path, f"the token {error.problem}: {error.remedy}")
            return None
        if found.expires_at is not None and found.expires_at <= self._now:
            self.warn(node, path, "the token has expired: the node will refuse it; have it signed anew")
        served = set(map(normalise_pattern, found.claims.hostnames))
        missing = [name for name in hostnames if name not in served]
        if missing:
            self.warn(
                node,
                path,
                f"the token does not claim {', '.join(missing[:5])}{' …' if len(missing) > 5 else ''}: "
                "the node goes by the token; have it signed anew",
            )
        return PresignedToken(text.strip())

    def _attestation(
        self, node: Node, path: str
    ) -> tuple[Credential | None, AttestationOptions, bool, tuple[int, ...]]:
        what = "write a mapping with command:, hmacSecret: or hmacSecretFile:"
        members = self.mapping(node, path, _ATTESTATION_KEYS, what, secret=True)
        if members is None:
            return None, AttestationOptions(), False, ()
        values = {key: value for key, (_, value) in members.items()}
        defaults = AttestationOptions()
        options = AttestationOptions(
            token_ttl=self._seconds(values, path, "tokenTTLSeconds", 0) or defaults.token_ttl,
            cache_handshake=self._seconds(values, path, "cacheHandshakeSeconds", 0),
            handshake_max_age=self._seconds(values, path, "handshakeMaxAgeSeconds", 0),
            reauth_interval=self._seconds(values, path, "reauthIntervalSeconds", 0),
            reauth_grace=self._seconds(values, path, "reauthGraceSeconds", 0),
            maintenance_grace_cap=self._seconds(values, path, "maintenanceGraceCapSeconds", 0),
            authorizer_status_uri=self._optional_line(values, path, "authorizerStatusUri", "write a URL", _PATH_LIMIT),
            policy_version=self._optional_line(values, path, "policyVersion", "write a short text", _NAME_LIMIT),
        )
        outbound = False
        if "outboundAllowed" in values:
            outbound = self.flag(values["outboundAllowed"], child(path, "outboundAllowed")) or False
        ports = self._ports(values, path, "allowedOutboundPorts")
        if ports and not outbound and "allowedOutboundPorts" in values:
            self.note(
                values["allowedOutboundPorts"],
                child(path, "allowedOutboundPorts"),
                "lists ports, but outboundAllowed is not true: set outboundAllowed: true or leave the ports out",
            )
        return self._source(node, values, path), options, outbound, ports

    def _source(self, node: Node, values: dict[str, Node], path: str) -> Credential | None:
        """Return where the tokens come from: one of command, hmacSecret, hmacSecretFile."""
        sources = [
            key for key in ("command", "hmacSecret", "hmacSecretFile") if key in values and not _is_empty(values[key])
        ]
        if len(sources) != 1:
            if sources:
                self.note(values[sources[1]], path, f"has {' and '.join(sources)}: keep one of them")
            else:
                self.note(node, path, "names no source of tokens: give command:, hmacSecret: or hmacSecretFile:")
            return None
        key = sources[0]
        where, found = child(path, key), values[key]
        if key == "hmacSecret":
            secret = self.text(found, where, "write the key", limit=_SECRET_LIMIT, secret=True)
            credential: Credential | None = None if secret is None else HmacSecret(secret)
        elif key == "hmacSecretFile":
            file = self.line(found, where, "write the path of the file", limit=_PATH_LIMIT)
            credential = None if file is None else HmacSecretFile(file)
        else:
            program = self.line(found, where, "write the path of the program", limit=_PATH_LIMIT)
            args = self._arguments(values, path)
            env = self._environment(values, path)
            timeout = self._seconds(values, path, "timeoutSeconds", 0) or _COMMAND_TIMEOUT
            return None if program is None else TokenCommand(program, args, env, float(timeout))
        for unused in ("args", "env", "timeoutSeconds"):
            if unused in values and not _is_empty(values[unused]):
                self.warn(values[unused], child(path, unused), f"has no effect beside {key}: it belongs to command")
        return credential

    def _arguments(self, values: dict[str, Node], path: str) -> tuple[str, ...]:
        if "args" not in values:
            return ()
        where, what = child(path, "args"), 'write a list of texts, as in ["--backend=edge"]'
        found = []
        for index, item in enumerate(self.items(values["args"], where, what, secret=True)):
            text = self.text(item, child(where, index), what, limit=_SECRET_LIMIT, secret=True)
            if text is not None:
                found.append(text)
        return tuple(found)

    def _environment(self, values: dict[str, Node], path: str) -> tuple[tuple[str, str], ...]:
        if "env" not in values:
            return ()
        where, what = child(path, "env"), "write names and texts, as in {NAME: value}"
        found = {}
        for key, value in (self.mapping(values["env"], where, None, what, secret=True) or {}).values():
            if not key.text or "=" in key.text or "\0" in key.text:
                self.note(key, where, "has a name that is empty or holds = or NUL: name the variable, as in NAME")
                continue
            if isinstance(value, Scalar) and value.is_null:
                found[key.text] = ""
                continue
            text = self.text(value, child(where, key.text), what, limit=_SECRET_LIMIT, secret=True)
            if text is not None:
                found[key.text] = text
        return tuple(sorted(found.items()))

    # -- how it serves

    def _health_checks(self, values: dict[str, Node], path: str) -> HealthCheckOptions:
        defaults = HealthCheckOptions()
        if "healthChecks" not in values:
            return defaults
        where = child(path, "healthChecks")
        members = (
            self.mapping(values["healthChecks"], where, _HEALTH_KEYS, "write a mapping, as in {enabled: true}") or {}
        )
        enabled: bool | None = defaults.enabled
        if "enabled" in members:
            enabled = self.flag(members["enabled"][1], child(where, "enabled"))
        times = {
            key: self.whole(members[key][1], child(where, key), 1, " of seconds") if key in members else default
            for key, default in (
                ("inactivityTimeout", int(defaults.inactivity_timeout)),
                ("pongTimeout", int(defaults.pong_timeout)),
            )
        }
        return HealthCheckOptions(
            enabled is not False, float(times["inactivityTimeout"] or 1), float(times["pongTimeout"] or 1)
        )

    def _flow_control(self, values: dict[str, Node], path: str) -> FlowControlOptions:
        defaults = FlowControlOptions()
        if "flowControl" not in values:
            return defaults
        where = child(path, "flowControl")
        keys = {
            "lowWaterMark": defaults.low_water,
            "highWaterMark": defaults.high_water,
            "maxBuffer": defaults.max_buffer,
        }
        what = "write a mapping, as in {highWaterMark: 48, lowWaterMark: 16, maxBuffer: 64}"
        members = self.mapping(values["flowControl"], where, keys, what)
        if members is None:
            return defaults
        marks = {
            key: self.whole(members[key][1], child(where, key), 0, " of messages") if key in members else default
            for key, default in keys.items()
        }
        low, high, largest = marks.values()
        if low is None or high is None or largest is None:
            return defaults
        if not low < high < largest:
            self.note(
                values["flowControl"],
                where,
                f"has lowWaterMark {low}, highWaterMark {high} and maxBuffer {largest}: each must exceed the last",
            )
        return FlowControlOptions(high_water=high, low_water=low, max_buffer=largest)

    def _socks5(self, values: dict[str, Node], path: str) -> str:
        found = values.get("socks5ListenAddr")
        if found is None or _is_empty(found):
            return ""
        what = "write host:port, as in 127.0.0.1:1080"
        return self._same(found, child(path, "socks5ListenAddr"), what, _listen_address) or ""

    def _seconds(self, values: dict[str, Node], path: str, key: str, minimum: int) -> int:
        if key not in values:
            return 0
        return self.whole(values[key], child(path, key), minimum, " of seconds") or 0

    def _optional_line(self, values: dict[str, Node], path: str, key: str, what: str, limit: int) -> str:
        return (self.line(values[key], child(path, key), what, limit=limit) or "") if key in values else ""


def _is_empty(node: Node) -> bool:
    """Tell whether a value stands for nothing, as an empty text, list or mapping does in the files' own client."""
    if isinstance(node, Scalar):
        return node.is_null or not node.text.strip()
    return not (node.items if isinstance(node, nodes.Sequence) else node.members)


def _targets(text: str) -> str:
    return ",".join(str(target) for target in parse_targets(text))


def _listen_address(text: str) -> str:
    target = parse_target(text)
    if target.kind != "tcp":
        raise InvalidValue("listen address", text, "is no host and port", "write host:port, as in 127.0.0.1:1080")
    return str(target)
