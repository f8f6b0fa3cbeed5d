"""A registry of any size, for measurements: realistic names, written past the managers so that it takes minutes."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from django.contrib.auth import get_user_model
from django.db import connection, models, transaction

from tenants.models import (
    AuditEntry,
    Backend,
    BackendHostname,
    BackendNode,
    Credential,
    Hostname,
    HostRoute,
    Membership,
    NexusNode,
    PortMapping,
    Role,
    Tenant,
)

BATCH: Final = 5_000
NODES: Final = 8
EDITS: Final = 10  # of each backend, in the audit trail
BIG, SMALL = 0, 1  # the tenants with 1 000 and with 10 backends; the others share the rest
BIG_BACKENDS, SMALL_BACKENDS = 1_000, 10
WORDS: Final = [
    "shop",
    "blog",
    "mail",
    "api",
    "web",
    "app",
    "data",
    "auth",
    "media",
    "files",
    "cloud",
    "admin",
    "status",
    "docs",
    "test",
    "stage",
    "crm",
    "erp",
    "wiki",
    "git",
]

Progress = Callable[[str, int], None]


@dataclass(frozen=True)
class Size:
    """How much there is of each."""

    tenants: int
    backends: int
    hostnames: int


def fill(size: Size, progress: Progress = lambda what, done: None) -> None:
    """Write everything, and let the database gather its statistics."""
    owners = list(_owners(size))
    backend_of = random.Random(7).choices(range(size.backends), k=size.hostnames)
    names = [_hostname(number, owners[backend]) for number, backend in enumerate(backend_of)]
    written = []
    with transaction.atomic():
        for rows in (
            _tenants(size),
            (NexusNode(name=f"node-{n}", address=f"wss://node-{n}.example.com/connect") for n in range(NODES)),
            _users(size),
            (Membership(user_id=n + 1, tenant_id=n + 1, role=Role.OWNER) for n in range(size.tenants)),
            (
                Backend(pk=n + 1, tenant_id=owner + 1, name=f"{WORDS[n % len(WORDS)]}-{n:06}")
                for n, owner in enumerate(owners)
            ),
            (Hostname(pk=n + 1, tenant_id=owners[backend_of[n]] + 1, name=name) for n, name in enumerate(names)),
            (BackendHostname(hostname_id=n + 1, backend_id=backend + 1) for n, backend in enumerate(backend_of)),
            (BackendNode(backend_id=n + 1, node_id=n % NODES + 1) for n in range(size.backends)),
            (
                PortMapping(pk=n + 1, backend_id=n + 1, public_port=443, default_target=f"{_address(n)}:8443")
                for n in range(size.backends)
            ),
            (
                HostRoute(port_mapping_id=backend + 1, pattern=names[n], target=f"{_address(n)}:9443")
                for n, backend in enumerate(backend_of)
                if n % 2
            ),
            _credentials(size),
            (
                AuditEntry(
                    tenant_key=owner + 1, tenant_slug=_slug(owner), model="tenants.backend", object_id=str(n + 1),
                    object_text=f"{WORDS[n % len(WORDS)]}-{n:06}", action="updated", actor_id=owner + 1,
                    actor_name=f"user-{owner:05}",
                    origin="import", changes={"weight": [weight, weight + 1]},
                )
                for n, owner in enumerate(owners)
                for weight in range(EDITS)
            ),
        ):  # fmt: skip
            written.append(_write(rows, progress))
    with connection.cursor() as cursor:
        for model in written:
            if connection.vendor == "postgresql":
                table = model._meta.db_table
                cursor.execute(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), (SELECT max(id) FROM {table}))")
        cursor.execute("ANALYZE")


def _write(rows: Iterable[models.Model], progress: Progress) -> type[models.Model]:
    rest, done, model = iter(rows), 0, models.Model
    while part := list(itertools.islice(rest, BATCH)):
        model = type(part[0])
        for row in part:
            if isinstance(row, Hostname):
                row.normalise()  # fills what is derived of the name
        # Not the registry's manager: no lock, no generation, no trail.
        every: Any = models.QuerySet(model)
        every.bulk_create(part, batch_size=BATCH)
        done += len(part)
        progress(str(model._meta.verbose_name_plural), done)
    return model


def _owners(size: Size) -> Iterator[int]:
    """Yield the tenant of each backend, counted from 0."""
    for number in range(size.backends):
        if number < min(BIG_BACKENDS, size.backends // 2):
            yield BIG
        elif number < min(BIG_BACKENDS, size.backends // 2) + SMALL_BACKENDS:
            yield SMALL
        else:
            yield 2 + number % (size.tenants - 2)


def _slug(number: int) -> str:
    return {BIG: "big-tenant", SMALL: "small-tenant"}.get(number, f"{WORDS[number % len(WORDS)]}-{number:05}")


def _tenants(size: Size) -> Iterator[Tenant]:
    for number in range(size.tenants):
        slug = _slug(number)
        yield Tenant(pk=number + 1, slug=slug, name=f"{slug.title()} Company")


def _users(size: Size) -> Iterator[Any]:
    for number in range(size.tenants):
        name = f"user-{number:05}"
        yield get_user_model()(pk=number + 1, username=name, email=f"{name}@example.com", is_staff=True, password="!")


def _hostname(number: int, owner: int) -> str:
    label = "*" if number % 50 == 49 else f"{WORDS[number % len(WORDS)]}{number}"
    return f"{label}.{WORDS[number // 7 % len(WORDS)]}{number if label == '*' else ''}.{_slug(owner)}.example.com"


def _address(number: int) -> str:
    return f"10.{number // 62_500 % 250}.{number // 250 % 250}.{number % 250}"


def _credentials(size: Size) -> Iterator[Credential]:
    sample = Credential(backend_id=1, kind="hmac_secret", secret="a secret of this measurement, and of no other use")
    sample.normalise()
    sealed = Credential._meta.get_field("secret").value_from_object(sample)  # encrypted once, not for each
    for number in range(size.backends):
        yield Credential(
            backend_id=number + 1,
            kind=sample.kind,
            secret=sealed,
            fingerprint=sample.fingerprint,
            secret_set_at=sample.secret_set_at,
        )
