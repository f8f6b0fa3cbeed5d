"""Rows of the registry → frozen configuration, in a constant number of queries.

What is disabled (tenant, backend, node) is left out. A backend whose rows cannot be read (a secret without its key,
a value that was changed past Django) is left out alone and reported; it never keeps others from being served.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS
from django.db.models import Q
from django.utils import timezone

from relay.config import (
    AttestationOptions,
    BackendConfig,
    Claims,
    Credential,
    HmacSecret,
    HmacSecretFile,
    Limits,
    NodeConfig,
    PresignedToken,
    RelayConfig,
    Removal,
    TokenCommand,
    UdpRoute,
)
from relay.config.addresses import check_port
from relay.config.target_policy import TargetPolicy
from relay.config.targets import parse_targets
from relay.configfile.fields import columns_of, from_columns, gather
from relay.errors import InvalidValue
from relay.logs import get_logger
from relay.routing import PortRoutes, RouteTable
from tenants import models
from tenants.bridge.transactions import one_moment
from tenants.changes import generations
from tenants.fields import UndecryptableValue
from tenants.models.below_backend import BelowBackends
from tenants.models.tenant_key import SIGNS
from tenants.rules.commands import check_command

log = get_logger("tenants.bridge")


@dataclass(frozen=True, slots=True)
class UnreadableBackend:
    """Why a backend is not served.

    Attributes:
        key: its `BackendConfig.key`.
        backend: ``tenant/name``.
        message: what is wrong; holds no secret.
    """

    key: str
    backend: str
    message: str


Report = Callable[[UnreadableBackend], None]


def log_unreadable(problem: UnreadableBackend) -> None:
    """Log that a backend cannot be read."""
    log.error("backend cannot be read from the registry", backend=problem.backend, problem=problem.message)


@dataclass(slots=True)
class Reading:
    """The result of a read.

    Attributes:
        backends: by key.
        tenants: ids of their tenants, by key.
        unreadable: keys of those that a `UnreadableBackend` was reported for.
        removals: how backends that are not served (any more) are removed, by key.
        turns: the future instants at which a next credential takes over, by key.
    """

    backends: dict[str, BackendConfig] = field(default_factory=dict)
    tenants: dict[str, int] = field(default_factory=dict)
    unreadable: set[str] = field(default_factory=set)
    removals: dict[str, Removal] = field(default_factory=dict)
    turns: dict[str, datetime] = field(default_factory=dict)

    def add(self, other: Reading) -> None:
        """Add what another part holds."""
        self.backends |= other.backends
        self.tenants |= other.tenants
        self.unreadable |= other.unreadable
        self.removals |= other.removals
        self.turns |= other.turns


def backend_key(pk: int) -> str:
    """Return the `BackendConfig.key` of a backend's primary key."""
    return f"backend:{pk}"


def backend_pk(key: str) -> int:
    """Return the primary key that `backend_key` made a key of."""
    return int(key.removeprefix("backend:"))


def load_all(site: str | None = None, *, using: str = DEFAULT_DB_ALIAS, report: Report = log_unreadable) -> RelayConfig:
    """Read everything that a relay serves, as of one moment.

    Args:
        site: only backends of this site, and those of none; None for all.
        using: alias of the database.
        report: is told of each backend that cannot be read.
    """
    with one_moment(using):
        generation = generations.current(using)
        reading = read(site, using=using, report=report)
    return RelayConfig(MappingProxyType(reading.backends), generation, MappingProxyType(reading.removals))


def load_backends(
    ids: Collection[int], site: str | None = None, *, using: str = DEFAULT_DB_ALIAS, report: Report = log_unreadable
) -> dict[str, BackendConfig | None]:
    """Read some backends; None for those that are not served: gone, disabled, of another site, not readable.

    Args:
        ids: their primary keys.
        site: as for `load_all`.
        using: as for `load_all`.
        report: as for `load_all`.
    """
    with one_moment(using):
        reading = read(site, Q(pk__in=list(ids)), using=using, report=report)
    return {backend_key(pk): reading.backends.get(backend_key(pk)) for pk in ids}


def read(
    site: str | None,
    wanted: Q | None = None,
    *,
    using: str,
    report: Report,
    known: Mapping[str, BackendConfig] = MappingProxyType({}),
) -> Reading:
    """Read the backends that a relay of the site serves.

    Args:
        site: as for `load_all`.
        wanted: condition on the backend; None for all.
        using: alias of the database.
        report: is told of each backend that cannot be read.
        known: what was read before, by key; where it is the same it is used on, and so are its route tables.
    """
    served = Q(enabled=True, tenant__enabled=True)
    if site is not None:
        served &= Q(site__in=["", site])
    looked_at = models.Backend.objects.using(using)
    if wanted is not None:
        # By key, so that a condition across links yields no backend twice.
        looked_at = looked_at.filter(pk__in=models.Backend.objects.using(using).filter(wanted).order_by().values("pk"))
    chosen = looked_at.filter(served)
    rows = chosen.order_by("pk").values(*_BACKEND_COLUMNS, *_TENANT_COLUMNS)
    below = _Below(using, chosen.order_by().values("pk"))
    of_site = models.Site.objects.using(using).filter(slug=site).order_by().values(*models.TARGET_POLICY_FIELDS)
    bounds = of_site.first() if site is not None else None
    reading = Reading()
    now = timezone.now()
    for row in rows:
        key = backend_key(row["pk"])
        reading.tenants[key] = row["tenant_id"]
        secrets = below.credentials.get(row["pk"])
        if secrets is not None and secrets["next_at"] is not None:
            if secrets["next_at"] > now:
                reading.turns[key] = secrets["next_at"]
            else:
                secrets["secret"] = secrets["next_secret"]
        try:
            before = known.get(key)
            routes = RouteTable() if before is None else before.routes
            backend = _backend(key, row, below, routes, _policies(row, bounds))
            reading.backends[key] = before if before == backend and before is not None else backend
        except Exception as error:  # a fault of one backend must not affect others
            reading.unreadable.add(key)
            report(UnreadableBackend(key, f"{row['tenant__slug']}/{row['name']}", _words(error)))
    for row in looked_at.exclude(served).order_by().values("pk", "removal_mode", "removal_seconds"):
        reading.removals[backend_key(row["pk"])] = gather(from_columns(row))["removal"]
    return reading


def _words(error: Exception) -> str:
    if isinstance(error, InvalidValue | UndecryptableValue | ImproperlyConfigured):
        return str(error)
    # Other messages might quote what they stumbled over, and that might be a secret.
    return f"its rows hold a value that cannot be used ({type(error).__name__}): save it again in the admin"


_BACKEND_COLUMNS = ("pk", "tenant_id", "name", *columns_of("backend"))
_TENANT_COLUMNS = (
    "tenant__slug",
    *(f"tenant__{name}" for name in (*models.LIMIT_FIELDS, *models.TARGET_POLICY_FIELDS)),
)
_CREDENTIAL_COLUMNS = (
    "backend_id", "kind", "secret", "next_secret", "next_at", "secret_file", "command", "args", "env", "timeout",
    "pk", *columns_of("credential"),
)  # fmt: skip


class _Below:
    """All rows below the chosen backends, by backend."""

    def __init__(self, using: str, chosen: Any) -> None:
        rows = BelowBackends(chosen, using)
        self.nodes = _grouped(
            rows.node_links.filter(node__enabled=True).values_list(
                "backend_id", "node__address", "node__name", "node__ca_pem"
            )
        )
        self.hostnames = _grouped(rows.hostname_links.values_list("backend_id", "hostname__name"))
        self.claims = _grouped(
            rows.port_claims.values_list("backend_id", "transport", "public_port", "flow_idle_timeout")
        )
        self.mappings = _grouped(
            rows.port_mappings.values_list(
                "backend_id", "pk", "transport", "public_port", "default_target", *models.OPTION_FIELDS
            )
        )
        self.routes = _grouped(rows.host_routes.values_list("port_mapping_id", "pattern", "target"))
        self.credentials = {row["backend_id"]: row for row in rows.credentials.values(*_CREDENTIAL_COLUMNS)}
        self.keys: dict[int, list[Any]] = {}
        if any(row["kind"] == models.CredentialKind.TENANT_KEY for row in self.credentials.values()):
            keys = (
                models.TenantKey.objects.using(using)
                .filter(SIGNS, tenant__in=chosen.values("tenant_id"))
                .order_by("pk")
            )
            # In that order, so that a tenant's newest one stays.
            self.keys = {tenant: key for tenant, *key in keys.values_list("tenant_id", "pk", "kid", "secret")}


def _grouped(rows: Iterable[tuple[Any, ...]]) -> dict[int, list[tuple[Any, ...]]]:
    groups: dict[int, list[tuple[Any, ...]]] = defaultdict(list)
    for parent, *values in rows:
        groups[parent].append(tuple(values))
    return groups


def _backend(
    key: str, row: dict[str, Any], below: _Below, routes: RouteTable, policies: tuple[TargetPolicy, ...]
) -> BackendConfig:
    pk = row["pk"]
    credential, attestation = _credential(below.credentials.get(pk), below.keys.get(row["tenant_id"]))
    claims = below.claims.get(pk, ())
    settings = gather(from_columns(row))
    return BackendConfig(
        key=key,
        name=row["name"],
        tenant=row["tenant__slug"],
        nodes=tuple(NodeConfig(address, name, ca_pem or None) for address, name, ca_pem in below.nodes.get(pk, ())),
        credential=credential,
        attestation=attestation,
        claims=Claims(
            hostnames=tuple(name for (name,) in below.hostnames.get(pk, ())),
            tcp_ports=tuple(port for transport, port, _ in claims if transport == models.Transport.TCP),
            udp_routes=tuple(UdpRoute(port, idle) for transport, port, idle in claims if transport != "tcp"),
            **settings.pop("claims"),
        ),
        routes=routes.updated(_port_routes(below.mappings.get(pk, ()), below)),
        tenant_limits=_limits(row, "tenant__"),
        target_policies=policies,
        **settings,
    )


def _policies(row: dict[str, Any], of_site: dict[str, Any] | None) -> tuple[TargetPolicy, ...]:
    """Return what bounds the targets: the tenant's policy, and that of the site that is served, as far as they do."""
    policies = [models.policy_of(row, "tenant", "tenant__")]
    if of_site is not None:
        policies.append(models.policy_of(of_site, "site"))
    return tuple(policy for policy in policies if not policy.is_open)


def _limits(row: dict[str, Any], prefix: str) -> Limits:
    return Limits(**{name: row[f"{prefix}{name}"] for name in models.LIMIT_FIELDS})


def _port_routes(mappings: Iterable[tuple[Any, ...]], below: _Below) -> Iterator[PortRoutes]:
    for mapping, transport, port, default, *options in mappings:
        hosts = dict(below.routes.get(mapping, ()))
        for targets in (*hosts.values(), default):
            if targets:
                parse_targets(targets)
        how = models.options_of(dict(zip(models.OPTION_FIELDS, options, strict=True)))
        yield PortRoutes(transport, check_port(port), default or None, hosts, how)


def _credential(row: dict[str, Any] | None, key: Sequence[Any] | None) -> tuple[Credential | None, AttestationOptions]:
    """Return the credential, and what goes into the tokens that are signed with it.

    Args:
        key: primary key, id and secret of the tenant's newest active key.
    """
    if row is None:
        return None, AttestationOptions()
    options = gather(from_columns(row))["attestation"]
    credential: Credential | None
    match row["kind"]:
        case models.CredentialKind.PRESIGNED_TOKEN:
            credential = PresignedToken(row["secret"].reveal(row["pk"]))
        case models.CredentialKind.HMAC_SECRET:
            credential = HmacSecret(row["secret"].reveal(row["pk"]))
        case models.CredentialKind.HMAC_SECRET_FILE:
            credential = HmacSecretFile(row["secret_file"])
        case models.CredentialKind.COMMAND:
            check_command(row["command"])
            env = models.Credential._meta.get_field("env")
            plain = {} if row["env"] is None else env.from_plaintext(row["env"].reveal(row["pk"]))
            credential = TokenCommand(
                command=row["command"],
                args=tuple(str(arg) for arg in row["args"]),
                env=tuple((str(name), str(value)) for name, value in plain.items()),
                timeout=float(row["timeout"]),
            )
        case models.CredentialKind.TENANT_KEY:
            # Without a key there is nothing to show: what the last one signed must not go on for that.
            credential = None if key is None else HmacSecret(key[2].reveal(key[0]), key[1])
        case kind:
            raise InvalidValue("credential kind", kind, "is not known", "choose one in the admin")
    return credential, options
