"""The state of a backend and everything below it, as comparable values that import and export share."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from relay.config import (
    AttestationOptions,
    HmacSecret,
    HmacSecretFile,
    PresignedToken,
    TokenCommand,
    UdpRoute,
)
from relay.config.port_options import PortOptions
from relay.configfile import BackendDocument, PortMappingDocument
from relay.configfile.fields import columns_of, from_columns, gather, to_columns
from tenants.fields import Sealed, UndecryptableValue
from tenants.models import (
    OPTION_FIELDS,
    Backend,
    CredentialKind,
    Tenant,
    Transport,
    options_of,
)
from tenants.models.below_backend import BelowBackends

FIELDS: Final = columns_of("backend")
"""Columns of the `Backend` row that a file sets."""

TOKEN_FIELDS: Final = columns_of("credential")
"""What goes into the relay's own tokens: fields of `Credential` and of `AttestationOptions` alike."""

Port = tuple[str, int]


@dataclass(frozen=True, slots=True)
class CredentialState:
    """A credential: what counts for its kind, everything else at its default.

    Attributes:
        secret, env: the plaintext; None where the credential has none, or it cannot be decrypted.
        readable: whether everything could be decrypted.
    """

    kind: str
    secret: str | None = field(default=None, repr=False)
    secret_file: str = ""
    command: str = ""
    args: tuple[str, ...] = field(default=(), repr=False)
    env: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    timeout: int = int(TokenCommand("").timeout)
    options: AttestationOptions = field(default_factory=AttestationOptions)
    readable: bool = True


@dataclass(frozen=True, slots=True)
class MappingState:
    """The targets of a port's streams, and its options."""

    default: str
    hosts: Mapping[str, str]
    options: PortOptions = PortOptions()


@dataclass(frozen=True, slots=True)
class BackendState:
    """A backend without its name and without what no file says (whether it is enabled, its site).

    Attributes:
        fields: by name, those of `FIELDS`.
        hostnames, nodes: names and addresses in their order.
        claims: claimed ports, with the idle timeout of UDP flows.
        mappings: by transport and public port.
    """

    fields: Mapping[str, Any]
    hostnames: tuple[str, ...]
    nodes: tuple[str, ...]
    claims: Mapping[Port, int | None]
    mappings: Mapping[Port, MappingState]
    credential: CredentialState | None


@dataclass(frozen=True, slots=True)
class StoredBackend:
    """A backend as the registry holds it."""

    pk: int
    name: str
    enabled: bool
    state: BackendState


def load(tenant: Tenant) -> dict[str, StoredBackend]:
    """Return the tenant's backends by name; the same few queries however many there are."""
    below = BelowBackends(Backend.objects.filter(tenant=tenant).order_by().values("pk"))
    hostnames: dict[int, list[str]] = defaultdict(list)
    for backend, name in below.hostname_links.values_list("backend_id", "hostname__name"):
        hostnames[backend].append(name)
    nodes: dict[int, list[str]] = defaultdict(list)
    for backend, address in below.node_links.values_list("backend_id", "node__address"):
        nodes[backend].append(address)
    claims: dict[int, dict[Port, int | None]] = defaultdict(dict)
    for backend, transport, port, timeout in below.port_claims.values_list(
        "backend_id", "transport", "public_port", "flow_idle_timeout"
    ):
        claims[backend][transport, port] = timeout
    hosts: dict[int, dict[str, str]] = defaultdict(dict)
    for mapping, pattern, target in below.host_routes.values_list("port_mapping_id", "pattern", "target"):
        hosts[mapping][pattern] = target
    mappings: dict[int, dict[Port, MappingState]] = defaultdict(dict)
    for row in below.port_mappings.values(
        "pk", "backend_id", "transport", "public_port", "default_target", *OPTION_FIELDS
    ):
        mappings[row["backend_id"]][row["transport"], row["public_port"]] = MappingState(
            row["default_target"], hosts.get(row["pk"], {}), options_of(row)
        )
    credentials = {
        row["backend_id"]: _credential(row)
        for row in below.credentials.values(
            "backend_id", "kind", "secret", "secret_file", "command", "args", "env", "timeout", *TOKEN_FIELDS
        )
    }
    return {
        row["name"]: StoredBackend(
            row["pk"],
            row["name"],
            row["enabled"],
            BackendState(
                fields=_relevant_fields({name: row[name] for name in FIELDS}, credentials.get(row["pk"])),
                hostnames=tuple(hostnames.get(row["pk"], ())),
                nodes=tuple(nodes.get(row["pk"], ())),
                claims=claims.get(row["pk"], {}),
                mappings=mappings.get(row["pk"], {}),
                credential=credentials.get(row["pk"]),
            ),
        )
        for row in Backend.objects.filter(tenant=tenant).order_by("name").values("pk", "name", "enabled", *FIELDS)
    }


def _relevant_fields(fields: dict[str, Any], credential: CredentialState | None) -> dict[str, Any]:
    """Sort what is a set, and leave out what a pre-signed token says itself: no file holds it beside one."""
    fields["allowed_outbound_ports"] = sorted(fields["allowed_outbound_ports"])
    if credential is not None and credential.kind == CredentialKind.PRESIGNED_TOKEN:
        fields |= {"outbound_allowed": False, "allowed_outbound_ports": []}
    return fields


def _credential(row: Mapping[str, Any]) -> CredentialState:
    kind, readable = row["kind"], True

    def open_sealed(name: str) -> Any:
        nonlocal readable
        value = row[name]
        if not isinstance(value, Sealed):
            return value
        try:
            text = value.reveal()
        except UndecryptableValue:
            readable = False
            return None
        return json.loads(text) if name == "env" else text

    found = CredentialState(kind)
    if kind in (CredentialKind.PRESIGNED_TOKEN, CredentialKind.HMAC_SECRET):
        found = replace(found, secret=open_sealed("secret"))
    elif kind == CredentialKind.HMAC_SECRET_FILE:
        found = replace(found, secret_file=row["secret_file"])
    elif kind == CredentialKind.COMMAND:
        env = open_sealed("env") or {}
        found = replace(
            found,
            command=row["command"],
            args=tuple(row["args"]),
            env=tuple(sorted(env.items())),
            timeout=row["timeout"],
        )
    if kind != CredentialKind.PRESIGNED_TOKEN:
        found = replace(found, options=AttestationOptions(**{name: row[name] for name in TOKEN_FIELDS}))
    return replace(found, readable=readable)


# -- documents


def from_document(document: BackendDocument) -> BackendState:
    """Return what the registry holds of a file's backend.

    A port mapping becomes one for TCP, and one for UDP too where ``udpRoutes`` claims its port.
    """
    claims: dict[Port, int | None] = {(Transport.TCP.value, port): None for port in document.tcp_ports}
    claims |= {(Transport.UDP.value, route.port): route.flow_idle_timeout for route in document.udp_routes}
    mappings: dict[Port, MappingState] = {}
    for mapping in document.port_mappings:
        state = MappingState(mapping.default or "", dict(mapping.hosts), mapping.options)
        mappings[Transport.TCP.value, mapping.port] = state
        if (Transport.UDP.value, mapping.port) in claims:
            mappings[Transport.UDP.value, mapping.port] = state
    return BackendState(
        fields=to_columns(document, "backend"),
        hostnames=document.hostnames,
        nodes=document.nexus_addresses,
        claims=claims,
        mappings=mappings,
        credential=_credential_of(document),
    )


def _credential_of(document: BackendDocument) -> CredentialState | None:
    match document.credential:
        case PresignedToken(token=token):
            return CredentialState(CredentialKind.PRESIGNED_TOKEN.value, secret=token)
        case HmacSecret(secret=secret):
            return CredentialState(CredentialKind.HMAC_SECRET.value, secret=secret, options=document.attestation)
        case HmacSecretFile(path=path):
            return CredentialState(
                CredentialKind.HMAC_SECRET_FILE.value, secret_file=path, options=document.attestation
            )
        case TokenCommand(command=command, args=args, env=env, timeout=timeout):
            return CredentialState(
                CredentialKind.COMMAND.value,
                command=command,
                args=args,
                env=env,
                timeout=int(timeout),
                options=document.attestation,
            )
    return None


def to_document(name: str, state: BackendState) -> BackendDocument:
    """Return what a file says of a backend. Of a port that is mapped for TCP and UDP, the TCP mapping."""
    fields, credential = state.fields, state.credential
    settings = gather(from_columns(fields))
    ports = sorted({port for _, port in state.mappings})
    mappings = []
    for port in ports:
        found = state.mappings.get((Transport.TCP.value, port)) or state.mappings[Transport.UDP.value, port]
        mappings.append(
            PortMappingDocument(port, found.default or None, tuple(sorted(found.hosts.items())), found.options)
        )
    return BackendDocument(
        name=name,
        hostnames=state.hostnames,
        nexus_addresses=state.nodes,
        port_mappings=tuple(mappings),
        credential=_credential_document(credential),
        tcp_ports=tuple(sorted(port for transport, port in state.claims if transport == Transport.TCP)),
        udp_routes=tuple(
            UdpRoute(port, timeout)
            for (transport, port), timeout in sorted(state.claims.items(), key=lambda item: item[0])
            if transport == Transport.UDP
        ),
        attestation=credential.options if credential is not None else AttestationOptions(),
        **settings.pop("claims"),
        **settings,
    )


def _credential_document(
    credential: CredentialState | None,
) -> PresignedToken | HmacSecret | HmacSecretFile | TokenCommand | None:
    if credential is None:
        return None
    match credential.kind:
        case CredentialKind.PRESIGNED_TOKEN:
            return PresignedToken(credential.secret or "")
        case CredentialKind.HMAC_SECRET:
            return HmacSecret(credential.secret or "")
        case CredentialKind.HMAC_SECRET_FILE:
            return HmacSecretFile(credential.secret_file)
        case CredentialKind.TENANT_KEY:
            return None
    return TokenCommand(credential.command, credential.args, credential.env, float(credential.timeout))
