"""What a decision needs of the registry, read once and kept until a change of it is numbered.

Small tables in memory: tenants with their keys and revoked tokens, backends with what they may claim, which backends
claim a name or port, and nodes by certificate. A look at the generation says what of them is no longer true. The tables
are written in the database's thread only, so what is read after a look is at least as new as that look.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeVar

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.models import Q

from relay.logs import get_logger
from tenants.changes import generations
from tenants.fields import Sealed, UndecryptableValue
from tenants.models import (
    BackendHostname,
    CredentialKind,
    GenerationCounter,
    NexusNode,
    PortClaim,
    Revocation,
    Tenant,
    TenantKey,
)
from tenants.models.below_backend import BelowBackends
from tenants.services.tokens.entitlements import Entitlement, entitlements_of

MOST_KEPT: Final = 50_000
"""Entries of one table; with more it starts empty again."""

MOST_CANDIDATES: Final = 100
"""Backends that claim one port which a token is tried for."""

TURN: Final = 60.0
"""Seconds that a replaced secret still vouches, for what was signed just before: as long as the job leaves it."""

MOST_OF_A_HOSTNAME: Final = 1_000
"""Backends with one hostname which a token is tried for: they are read and kept together."""

HOST: Final = "host"

Anchor = tuple[str, str | int, str | int]
"""What backends are found by: ``host``, ``tcp`` or ``udp``; the name or port; of a port the tenant or the subject."""

PRELOADED_BACKENDS: Final = 50
PRELOADED_HOSTNAMES: Final = 1_000
"""A tenant with no more than these is read whole, with the first token of one of its backends."""

_NEWEST: Final = f"SELECT value FROM {GenerationCounter._meta.db_table} WHERE id = %s"  # noqa: S608 - our own name

_K = TypeVar("_K")
_V = TypeVar("_V")
_MISSING: Any = object()

log = get_logger("tenants.verifier")


class NotKept(Exception):
    """A table does not hold it: it must be read, in the database's thread.

    Attributes:
        key: of what is missing.
        find: tells by one query, in any database thread, whether there is such a thing at all; None where there is.
    """

    def __init__(self, key: Any = None, find: Callable[[], object] | None = None) -> None:
        super().__init__()
        self.key = key
        self.find = find


@dataclass(frozen=True, slots=True)
class Key:
    """A tenant's key.

    Attributes:
        secret: None where it cannot be decrypted.
        accepted_until: seconds since the epoch.
    """

    kid: str
    secret: bytes | None = field(repr=False)
    accepted_until: float
    revoked: bool

    def accepted(self, now: float) -> bool:
        """Tell whether what it signs is good at an instant."""
        return not self.revoked and now < self.accepted_until


@dataclass(frozen=True, slots=True)
class TenantMaterial:
    """A tenant, its keys and the tokens that it took back."""

    pk: int
    slug: str
    enabled: bool
    keys: tuple[Key, ...]
    revoked_ids: frozenset[str]
    revoked_hashes: frozenset[str]


@dataclass(frozen=True, slots=True)
class BackendMaterial:
    """A backend, and the secrets of its own credential that vouch for it alone, each until an instant."""

    entitlement: Entitlement
    secrets: tuple[tuple[bytes, float], ...] = field(repr=False)

    def accepted(self, now: float) -> Iterator[bytes]:
        """Yield the secrets that vouch for it at an instant."""
        return (secret for secret, until in self.secrets if now < until)


class Store:
    """The tables. `refresh` and a `Reader` that reads belong into the database's thread."""

    def __init__(self, using: str = DEFAULT_DB_ALIAS) -> None:
        self.using = using
        self.generation: int | None = None
        self.tenants: dict[int, TenantMaterial] = {}
        self.tenants_by_kid: dict[str, int] = {}
        self.backends: dict[int, BackendMaterial] = {}
        self.hosts: dict[Anchor, tuple[int, ...]] = {}
        self.ports: dict[Anchor, tuple[int, ...]] = {}
        self.nodes: dict[str, str] = {}

    def refresh(self) -> None:
        """Forget what is no longer true: one query where nothing changed."""
        newest = self._newest()
        if self.generation is None:
            self.generation = newest
        if self.generation == newest:
            return
        changes = generations.changes_since(self.generation, using=self.using)
        if changes.reload:
            for table in (self.tenants, self.tenants_by_kid, self.backends, self.hosts, self.ports, self.nodes):
                table.clear()  # type: ignore[attr-defined]
        if changes.tenants:
            for pk in changes.tenants:
                self.tenants.pop(pk, None)
            self.tenants_by_kid = {kid: pk for kid, pk in self.tenants_by_kid.items() if pk not in changes.tenants}
            self.ports.clear()  # found by the slugs too
        if changes.nodes:
            self.nodes.clear()
        if changes.backends:
            self._forget_backends(changes.backends)
        self.generation = changes.generation

    def _newest(self) -> int:
        """As `generations.current`, without the time that it takes to build the same query again."""
        connection = connections[self.using]
        with connection.cursor() as cursor:
            cursor.execute(_NEWEST, [generations.COUNTER_PK])
            row = cursor.fetchone()
        return int(row[0]) if row else 0

    def _forget_backends(self, keys: Collection[int]) -> None:
        """Forget these backends, under the names that they had and have; ports are few."""
        names: set[str] = set()
        for key in keys:
            if (old := self.backends.pop(key, None)) is not None:
                names |= old.entitlement.hostname_set
        rows = BelowBackends(keys, self.using).hostname_links
        names.update(rows.order_by().values_list("hostname__name", flat=True))
        for name in names:
            self.hosts.pop((HOST, name, ""), None)
        self.ports.clear()

    @staticmethod
    def keep(table: dict[_K, _V], key: _K, value: _V) -> None:
        """Add an entry."""
        if len(table) >= MOST_KEPT:
            table.clear()
        table[key] = value


class Reader:
    """Looks things up in the tables.

    Args:
        reads: read what a table lacks, in the calling thread; else raise `NotKept`.
        absent: what is known not to be there.
    """

    def __init__(self, store: Store, *, reads: bool, absent: Collection[Any] = ()) -> None:
        self._store = store
        self._reads = reads
        self._absent = absent

    def _get(self, table: dict[_K, _V], key: _K, load: Callable[[_K], _V | None]) -> _V | None:
        found: Any = table.get(key, _MISSING)
        if found is not _MISSING:
            return found  # type: ignore[no-any-return]
        if not self._reads:
            if key in self._absent:
                return None
            raise NotKept(key, None if table is self._store.tenants else partial(load, key))
        value = load(key)
        # What is not there is not kept: anybody can ask a node for things that are not there.
        if value:
            Store.keep(table, key, value)
        return value

    def tenant(self, pk: int) -> TenantMaterial | None:
        """Return a tenant; None where it is gone."""
        return self._get(self._store.tenants, pk, self._load_tenant)

    def tenant_of_key(self, kid: str) -> TenantMaterial | None:
        """Return the tenant whose key has this id."""
        pk = self._get(self._store.tenants_by_kid, kid, self._load_kid)
        return None if pk is None else self.tenant(pk)

    def node(self, certificate: str) -> str | None:
        """Return the name of the enabled node that shows a certificate of this SHA-256."""
        return self._get(self._store.nodes, certificate, self._load_node)

    def candidates(self, anchor: Anchor) -> Sequence[BackendMaterial]:
        """Return the backends that claim this, whosever they are."""
        keys = self._get(self._store.hosts if anchor[0] == HOST else self._store.ports, anchor, self._load_anchor) or ()
        table = self._store.backends
        missing = [key for key in keys if key not in table]
        if missing and not self._reads:
            raise NotKept
        loaded = self._load_backends(missing) if missing else {}
        for key, material in loaded.items():
            Store.keep(table, key, material)
        # A table may have been emptied meanwhile.
        found = [each for key in keys if (each := loaded.get(key) or table.get(key)) is not None]
        if len(found) < len(keys) and not self._reads:
            raise NotKept
        return found

    # -- reading

    def _load_tenant(self, pk: int) -> TenantMaterial | None:
        using = self._store.using
        row = Tenant.objects.using(using).filter(pk=pk).values_list("slug", "enabled").first()
        if row is None:
            return None
        revocations = list(
            Revocation.objects.using(using).filter(tenant=pk).order_by().values_list("token_id", "token_hash")
        )
        keys: Any = TenantKey.objects.using(using).filter(tenant=pk).order_by("-pk")
        self._preload(pk)
        return TenantMaterial(
            pk=pk,
            slug=row[0],
            enabled=row[1],
            keys=tuple(
                Key(kid, _opened(secret, key), math.inf if until is None else until.timestamp(), revoked is not None)
                for key, kid, secret, until, revoked in keys.values_list(
                    "pk", "kid", "secret", "accepted_until", "revoked_at"
                )
            ),
            revoked_ids=frozenset(token_id for token_id, _ in revocations if token_id),
            revoked_hashes=frozenset(token_hash for _, token_hash in revocations if token_hash),
        )

    def _preload(self, tenant: int) -> None:
        """Read all backends of a small tenant: they mostly come together, as when a node restarts."""
        store = self._store
        rows: Any = BackendHostname.objects.using(store.using).filter(backend__tenant=tenant).order_by("backend_id")
        found: dict[str, list[int]] = defaultdict(list)
        for backend, name in rows.values_list("backend_id", "hostname__name")[: PRELOADED_HOSTNAMES + 1]:
            found[name].append(backend)
        keys = {key for backends in found.values() for key in backends}
        if len(found) > PRELOADED_HOSTNAMES or len(keys) > PRELOADED_BACKENDS:
            return
        for key, material in self._load_backends([key for key in keys if key not in store.backends]).items():
            Store.keep(store.backends, key, material)
        for name, backends in found.items():
            Store.keep(store.hosts, (HOST, name, ""), tuple(backends))

    def _load_kid(self, kid: str) -> int | None:
        found: Any = TenantKey.objects.using(self._store.using).filter(kid=kid).values_list("tenant_id", flat=True)
        return found.first()  # type: ignore[no-any-return]

    def _load_node(self, certificate: str) -> str | None:
        rows = NexusNode.objects.using(self._store.using).filter(
            enabled=True, client_certificates__contains=certificate
        )
        for name, certificates in rows.order_by("pk").values_list("name", "client_certificates"):
            if certificate in certificates.split(", "):
                return str(name)
        return None

    def _load_anchor(self, anchor: Anchor) -> tuple[int, ...]:
        kind, value, of = anchor
        using = self._store.using
        rows: Any
        if kind == HOST:
            rows = BackendHostname.objects.using(using).filter(hostname__name=value)
            return tuple(rows.order_by("backend_id").values_list("backend_id", flat=True)[:MOST_OF_A_HOSTNAME])
        whose = Q(backend__tenant=of) if isinstance(of, int) else _named(of)
        rows = PortClaim.objects.using(using).filter(whose, transport=kind, public_port=value)
        return tuple(rows.order_by("backend_id").values_list("backend_id", flat=True)[:MOST_CANDIDATES])

    def _load_backends(self, keys: Collection[int]) -> dict[int, BackendMaterial]:
        using = self._store.using
        secrets: dict[int, list[tuple[bytes, float]]] = defaultdict(list)
        rows = BelowBackends(keys, using).credentials.filter(kind=CredentialKind.HMAC_SECRET)
        for key, backend, sealed, next_sealed, at in rows.values_list(
            "pk", "backend_id", "secret", "next_secret", "next_at"
        ):
            # Whether or not a job tidies the row: a tenant that replaces a leaked secret relies on the instant.
            ends = math.inf if at is None else at.timestamp() + TURN
            opened = (_opened(sealed, key), ends), (_opened(next_sealed, key), math.inf)
            secrets[backend] += [(secret, until) for secret, until in opened if secret]
        return {
            key: BackendMaterial(entitlement, tuple(secrets[key]))
            for key, entitlement in entitlements_of(keys, using).items()
        }


def _named(subject: str) -> Q:
    """Return the condition for backends whose tokens have this subject: the relay's have the name alone."""
    slug, slash, name = subject.partition("/")
    alone = Q(backend__name=subject)
    return alone | Q(backend__tenant__slug=slug, backend__name=name) if slash else alone


def _opened(sealed: Sealed | None, key: int) -> bytes | None:
    if sealed is None:
        return None
    try:
        return sealed.reveal(key).encode()
    except UndecryptableValue as error:
        log.error("a key cannot be decrypted: tokens that it signed are refused", problem=str(error))
        return None
