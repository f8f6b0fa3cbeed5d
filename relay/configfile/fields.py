"""One table of a backend's simple fields: the key in a file, the attribute of a configuration, the registry's column.

The reader, the writer, and in the registry the snapshot, import and export go by it. A new field is its column in the
model, its attribute in `relay.config` and a line here. What has a form of its own (names, addresses, ports, credential)
is not in the table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Any, Final, Literal

from relay.config import BackendSettings, FlowControlOptions
from relay.config.addresses import check_status_address
from relay.config.backend_options import RemovalMode
from relay.configfile.document import BackendDocument
from relay.configfile.kinds import Address, Choice, Flag, Kind, Line, Ports, Seconds, Whole
from relay.configfile.nodes import Node, Scalar
from relay.configfile.problems import child
from relay.configfile.values import Values

Model = Literal["backend", "credential"]


@dataclass(frozen=True, slots=True)
class Field:
    """One field.

    Attributes:
        key: in a file, with its group in front (``removal.mode``).
        attribute: in `relay.config.BackendConfig` (``removal.mode``); a document spells its claims out.
        column: in the registry's model.
        model: whose column that is.
    """

    key: str
    attribute: str
    column: str
    kind: Kind
    model: Model = "backend"

    @property
    def group(self) -> str:
        """The mapping that holds the key; empty for the backend itself."""
        return self.key.rpartition(".")[0]

    @property
    def name(self) -> str:
        """The key in its mapping."""
        return self.key.rpartition(".")[2]

    def value_in(self, document: BackendDocument) -> Any:
        """Return what a document has for it."""
        return attrgetter(self.attribute.removeprefix("claims."))(document)

    @property
    def default(self) -> Any:
        """What it is where nothing is said."""
        return self.value_in(_NOTHING_SAID)


@dataclass(frozen=True, slots=True)
class Group:
    """A mapping of fields.

    Attributes:
        what: what is expected, for messages.
        whole: it is written with all its members where one is not the default.
        check: returns what is wrong with the members together, by their name in the configuration; empty for nothing.
    """

    what: str
    whole: bool = False
    check: Callable[[Mapping[str, Any]], str] = lambda members: ""


def _check_marks(members: Mapping[str, Any]) -> str:
    marks = FlowControlOptions(**members)
    if marks.low_water < marks.high_water < marks.max_buffer:
        return ""
    return (
        f"has lowWaterMark {marks.low_water}, highWaterMark {marks.high_water} and maxBuffer {marks.max_buffer}: "
        "each must exceed the last"
    )


GROUPS: Final = {
    "healthChecks": Group("write a mapping, as in {enabled: true}", whole=True),
    "flowControl": Group(
        "write a mapping, as in {highWaterMark: 48, lowWaterMark: 16, maxBuffer: 64}", whole=True, check=_check_marks
    ),
    "limits": Group("write a mapping, as in {maxStreams: 100}"),
    "removal": Group("write a mapping, as in {mode: drain, seconds: 60}", whole=True),
    "attestation": Group("write a mapping with command:, hmacSecret: or hmacSecretFile:"),
}

_SECONDS: Final = " of seconds"
_MARK: Final = Whole(1, " of messages", below=True)
_CLAIM: Final = Whole(0, _SECONDS)

# fmt: off
FIELDS: Final = (
    Field("weight", "claims.weight", "weight", Whole(1, below=True)),
    Field("healthChecks.enabled", "health_checks.enabled", "health_check_enabled", Flag()),
    Field("healthChecks.inactivityTimeout", "health_checks.inactivity_timeout", "health_check_inactivity_timeout",
          Seconds(1, below=True)),
    Field("healthChecks.pongTimeout", "health_checks.pong_timeout", "health_check_pong_timeout",
          Seconds(1, below=True)),
    Field("flowControl.highWaterMark", "flow_control.high_water", "flow_high_water", _MARK),
    Field("flowControl.lowWaterMark", "flow_control.low_water", "flow_low_water", _MARK),
    Field("flowControl.maxBuffer", "flow_control.max_buffer", "flow_max_buffer", _MARK),
    Field("socks5ListenAddr", "socks5_listen", "socks5_listen", Address()),
    Field("attestation.cacheHandshakeSeconds", "attestation.cache_handshake", "cache_handshake", _CLAIM, "credential"),
    Field("attestation.tokenTTLSeconds", "attestation.token_ttl", "token_ttl", Whole(0, _SECONDS, zero=None),
          "credential"),
    Field("attestation.handshakeMaxAgeSeconds", "attestation.handshake_max_age", "handshake_max_age", _CLAIM,
          "credential"),
    Field("attestation.reauthIntervalSeconds", "attestation.reauth_interval", "reauth_interval", _CLAIM, "credential"),
    Field("attestation.reauthGraceSeconds", "attestation.reauth_grace", "reauth_grace", _CLAIM, "credential"),
    Field("attestation.maintenanceGraceCapSeconds", "attestation.maintenance_grace_cap", "maintenance_grace_cap",
          _CLAIM, "credential"),
    Field("attestation.authorizerStatusUri", "attestation.authorizer_status_uri", "authorizer_status_uri",
          Line("write a URL", 500, check_status_address), "credential"),
    Field("attestation.policyVersion", "attestation.policy_version", "policy_version",
          Line("write a short text", 200), "credential"),
    Field("attestation.outboundAllowed", "claims.outbound_allowed", "outbound_allowed", Flag()),
    Field("attestation.allowedOutboundPorts", "claims.allowed_outbound_ports", "allowed_outbound_ports", Ports()),
    Field("limits.maxStreams", "limits.max_streams", "max_streams", Whole()),
    Field("limits.streamsPerSecond", "limits.streams_per_second", "streams_per_second", Whole()),
    Field("limits.uploadBytesPerSecond", "limits.upload_rate", "upload_rate", Whole()),
    Field("limits.downloadBytesPerSecond", "limits.download_rate", "download_rate", Whole()),
    Field("removal.mode", "removal.mode", "removal_mode", Choice(RemovalMode)),
    Field("removal.seconds", "removal.seconds", "removal_seconds", Seconds(0)),
)
# fmt: on

_NOTHING_SAID: Final = BackendDocument("", (), (), (), None)
_TYPES: Final = {
    name: type(getattr(BackendSettings(), name))
    for name in BackendSettings.__dataclass_fields__
    if name in {each.attribute.partition(".")[0] for each in FIELDS if "." in each.attribute}
}


def keys_of(group: str) -> frozenset[str]:
    """Return the keys of a mapping; of the backend itself (empty) also those of the groups."""
    found = frozenset(each.name for each in FIELDS if each.group == group)
    return found if group else found | GROUPS.keys()


def gather(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments of a `BackendConfig` from values by `Field.attribute`; ``claims`` as a dict of its own."""
    arguments: dict[str, Any] = {"claims": {}}
    for attribute, value in found.items():
        head, _, name = attribute.partition(".")
        if name:
            arguments.setdefault(head, {})[name] = value
        else:
            arguments[head] = value
    return {name: _TYPES[name](**value) if name in _TYPES else value for name, value in arguments.items()}


# -- files


def read_members(values: Values, members: Mapping[str, tuple[Scalar, Node]], path: str, group: str) -> dict[str, Any]:
    """Read the fields of one mapping; what is wrong is noted.

    Returns:
        Values by `Field.attribute`, of the fields that are there.
    """
    found: dict[str, Any] = {}
    for each in FIELDS:
        if each.group == group and each.name in members:
            value = each.kind.read(
                values, members[each.name][1], child(path, each.name), partial(getattr, each, "default")
            )
            if value is not None:
                found[each.attribute] = value
    return found


def read_group(values: Values, node: Node, path: str, group: str) -> dict[str, Any]:
    """Read a mapping that holds nothing but fields; as `read_members`."""
    known = len(values.problems)
    members = values.mapping(node, path, keys_of(group), GROUPS[group].what) or {}
    found = read_members(values, members, path, group)
    if len(values.problems) == known:
        problem = GROUPS[group].check({name.rpartition(".")[2]: value for name, value in found.items()})
        if problem:
            values.note(node, path, problem)
    return found


def write_fields(document: BackendDocument) -> dict[str, Any]:
    """Return the members of a backend in a file: those that are not the default, and the groups that hold them."""
    written: dict[str, Any] = {}
    by_group: dict[str, list[Field]] = {}
    for each in FIELDS:
        by_group.setdefault(each.group or each.key, []).append(each)
    for name, members in by_group.items():
        said = {each.name: (each.value_in(document), each) for each in members}
        differs = any(value != each.default for value, each in said.values())
        whole = differs and name in GROUPS and GROUPS[name].whole
        found = {
            key: each.kind.to_file(value)
            for key, (value, each) in said.items()
            if value is not None and (whole or value != each.default)
        }
        if found:
            written[name] = found if name in GROUPS else found[name]
    return written


# -- the registry's rows


def columns_of(model: Model) -> tuple[str, ...]:
    """Return the columns of a model that have a field here."""
    return tuple(each.column for each in FIELDS if each.model == model)


def from_columns(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return values by `Field.attribute` of the columns that a row has.

    Raises:
        ValueError: a column holds what the field cannot be.
    """
    return {each.attribute: each.kind.from_column(row[each.column]) for each in FIELDS if each.column in row}


def to_columns(document: BackendDocument, model: Model) -> dict[str, Any]:
    """Return a model's columns as a document has them."""
    return {each.column: each.kind.to_column(each.value_in(document)) for each in FIELDS if each.model == model}
