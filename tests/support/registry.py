"""Rows of the registry for tests, and databases of their own beside the test runner's."""

from __future__ import annotations

import copy
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any
from unittest import mock

import jwt
from django.core.management import call_command
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from tenants.models import (
    OPEN_POLICY,
    Backend,
    Credential,
    CredentialKind,
    Domain,
    Hostname,
    HostRoute,
    NexusNode,
    PortMapping,
    Tenant,
    VerifiedBy,
)
from tests.support.postgres import OWNER, PostgresServer, at_exit

TEMPLATE = "migrated"
"""Name of the database that others are copied from."""

_numbers = count(1)
_ensure_connection = BaseDatabaseWrapper.ensure_connection  # as it is outside of tests


def make_tenant(using: str = DEFAULT_DB_ALIAS, **fields: Any) -> Tenant:
    """Save a tenant, whose targets may be anywhere unless the fields say otherwise: those of tests are on loopback."""
    fields.setdefault("slug", f"tenant-{next(_numbers)}")
    fields = {**OPEN_POLICY, **fields}
    return Tenant.objects.using(using).create(**fields)


def make_node(using: str = DEFAULT_DB_ALIAS, **fields: Any) -> NexusNode:
    """Save a node."""
    number = next(_numbers)
    fields.setdefault("name", f"node-{number}")
    fields.setdefault("address", f"wss://nexus-{number}.example.com/connect")
    return NexusNode.objects.using(using).create(**fields)


def make_backend(tenant: Tenant | None = None, using: str = DEFAULT_DB_ALIAS, **fields: Any) -> Backend:
    """Save a backend without anything below it."""
    fields.setdefault("name", f"backend-{next(_numbers)}")
    return Backend.objects.using(using).create(tenant=tenant or make_tenant(using), **fields)


def make_domain(tenant: Tenant, name: str, by: VerifiedBy | None = VerifiedBy.OPERATOR) -> Domain:
    """Save a tenant's claim to a domain, proved by this; for None it waits for its proof."""
    domain = Domain(tenant=tenant, name=name)
    if by is not None:
        domain.prove(by)
    domain.save(using=tenant._state.db)
    return domain


def make_served_backend(
    tenant: Tenant | None = None, hostname: str = "", using: str = DEFAULT_DB_ALIAS, **fields: Any
) -> Backend:
    """Save a backend with all that it takes to be served: node, hostname, mapping, route, HMAC secret."""
    backend = make_backend(tenant, using, **fields)
    backend.nodes.add(make_node(using))
    name = hostname or f"app-{next(_numbers)}.example.com"
    backend.hostnames.add(Hostname.objects.using(using).create(tenant=backend.tenant, name=name))
    mapping = PortMapping.objects.using(using).create(backend=backend, public_port=443, default_target="localhost:8443")
    HostRoute.objects.using(using).create(port_mapping=mapping, pattern=name, target="localhost:9443")
    Credential.objects.using(using).create(backend=backend, kind=CredentialKind.HMAC_SECRET, secret="not so secret")
    return backend


def make_token(**claims: Any) -> str:
    """Sign a token with a key that nobody knows."""
    claims.setdefault("iss", "authorizer")
    claims.setdefault("aud", ["nexus"])
    return jwt.encode(claims, "k" * 32, algorithm="HS256")


@contextmanager
def database(settings: dict[str, Any], migrate: bool = True) -> Iterator[str]:
    """Add a database to Django's and give its alias; its connection of this thread is closed at the end."""
    alias = f"extra-{next(_numbers)}"
    connections.databases[alias] = connections.databases[DEFAULT_DB_ALIAS] | {
        "OPTIONS": {},
        "TIME_ZONE": None,
        **copy.deepcopy(settings),
    }
    try:
        if migrate:
            call_command("migrate", database=alias, verbosity=0, interactive=False)
        yield alias
    finally:
        connections[alias].close()
        del connections[alias]
        del connections.databases[alias]


@contextmanager
def sqlite_database() -> Iterator[str]:
    """Give the alias of a SQLite database in a file of its own, opened as the project's settings open theirs."""
    with tempfile.TemporaryDirectory(prefix="nexusadmin-db-") as folder:
        path = migrated_copy(Path(folder) / "registry.sqlite3")
        with database(sqlite_settings(path), migrate=False) as alias:
            yield alias


def migrated_copy(path: Path) -> Path:
    """Make a migrated SQLite database without rows in this file, and return its path."""
    shutil.copyfile(_migrated_file(), path)
    return path


@contextmanager
def _allowed() -> Iterator[None]:
    """Let a database be made in whatever test asks first: Django forbids most tests all but the run's own."""
    with mock.patch.object(BaseDatabaseWrapper, "ensure_connection", _ensure_connection):
        yield


@cache
def _migrated_file() -> Path:
    """Migrate one file and keep it, to be copied: that takes a thousandth of the time."""
    folder = tempfile.TemporaryDirectory(prefix="nexusadmin-db-")
    at_exit(folder.cleanup)
    path = Path(folder.name) / "migrated.sqlite3"
    with _allowed(), database(sqlite_settings(path)) as alias, connections[alias].cursor() as cursor:
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path


def sqlite_settings(path: Path) -> dict[str, Any]:
    """Return the settings of a SQLite database in a file, as the project opens its own."""
    options = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA foreign_keys=ON;",
    }
    return {"ENGINE": "django.db.backends.sqlite3", "NAME": str(path), "OPTIONS": options}


@contextmanager
def postgres_database(server: PostgresServer | None = None) -> Iterator[str]:
    """Give the alias of a migrated PostgreSQL database of its own; skips where there is no PostgreSQL.

    Args:
        server: where it is to be, a `migrated_server`; by default the one that this process shares.
    """
    server = server or shared_server()
    name = f"registry_{next(_numbers)}"
    server.create_database(name, TEMPLATE)
    try:
        with database(postgres_settings(server, name), migrate=False) as alias:
            yield alias
    finally:
        if server.answers():
            server.drop_database(name)


def migrated_server() -> PostgresServer:
    """Return a server for tests that halt theirs or look into its files; it must be started."""
    return PostgresServer(_migrated_cluster())


@cache
def shared_server() -> PostgresServer:
    """Start this process's server, which ends with it."""
    server = migrated_server()
    at_exit(server.stop)
    return server.start()


@cache
def _migrated_cluster() -> Path:
    """Migrate one database on a server, close that and keep its data directory, to be copied."""
    server = PostgresServer()
    at_exit(server.stop)
    server.start()
    server.create_database(TEMPLATE)
    with _allowed(), database(postgres_settings(server, TEMPLATE)):
        pass
    server.close()
    return server.data


def postgres_settings(server: PostgresServer, name: str) -> dict[str, Any]:
    """Return the settings of a database on a server."""
    place = {"NAME": name, "USER": OWNER, "PASSWORD": "", "HOST": str(server.directory), "PORT": ""}
    return {"ENGINE": "django.db.backends.postgresql", **place}
