"""Brings a tenant's backends into the state that a configuration file describes: all of it, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from django.core.exceptions import ValidationError
from django.db import DatabaseError, transaction

from relay.configfile import ConfigDocument, ConfigFileError, Problem
from tenants.changes import generations
from tenants.changes.querysets import chunks
from tenants.models import (
    OPEN_POLICY,
    OPTION_FIELDS,
    Backend,
    BackendHostname,
    BackendNode,
    Credential,
    Hostname,
    HostRoute,
    NexusNode,
    PortClaim,
    PortMapping,
    Tenant,
    fields_of,
)
from tenants.rules import limits, ownership
from tenants.services.config_import.backend_states import (
    FIELDS,
    TOKEN_FIELDS,
    BackendState,
    CredentialState,
    MappingState,
    StoredBackend,
    from_document,
    load,
)
from tenants.services.config_import.checks import refused
from tenants.services.config_import.state_changes import Change, describe, differences

DEFAULT_TENANT: Final = "default"
BATCH: Final = 2_000  # rows in one bulk operation

Progress = Callable[[str, int, int], None]
"""Is told what is done, how much of it, and how much there is."""


@dataclass(frozen=True, slots=True)
class ImportSummary:
    """What an import did, or would do.

    Attributes:
        tenant: slug.
        changes: in the order of the file, what is removed last.
        unchanged: backends that are as the file says.
        left: backends of the tenant that are not in the file and stay, for want of ``prune``.
        tenant_enabled: whether the tenant's backends are served at all.
    """

    tenant: str
    changes: tuple[Change, ...]
    unchanged: int
    left: int
    tenant_enabled: bool

    def count(self, action: str, noun: str) -> int:
        """Return how many changes are of this kind."""
        return sum(change.action == action and change.noun == noun for change in self.changes)


class UnknownTenant(LookupError):
    """The named tenant does not exist."""


def import_config(
    document: ConfigDocument,
    *,
    tenant: str | None = None,
    prune: bool = False,
    dry_run: bool = False,
    progress: Progress = lambda what, done, total: None,
) -> ImportSummary:
    """Bring the tenant's backends into the state of the document, in one transaction.

    What no file says stays as it is: whether a backend is enabled, its site, names and certificates of nodes. A second
    run finds nothing to change.

    Args:
        tenant: slug of an existing tenant; None for `DEFAULT_TENANT`, which is made if missing.
        prune: also remove the tenant's backends that are not in the document, and its hostnames that no backend serves.
        dry_run: find out what would change, and write nothing.

    Raises:
        ConfigFileError: the registry can not take it (a hostname belongs to another tenant, a target is out of the
            tenant's bounds); nothing is changed.
        UnknownTenant: there is no such tenant.
    """
    # The plan is made under the generation's lock, so that nothing changes between it and the writing.
    with transaction.atomic(), nullcontext() if dry_run else generations.batch():
        owner = _tenant(tenant)
        plan = _Plan(document, owner, prune, progress)
        if not dry_run:
            try:
                plan.apply()
            except (ValidationError, DatabaseError) as error:
                raise ConfigFileError([_unforeseen(document, error)]) from error
        return plan.summary


def _tenant(slug: str | None) -> Tenant:
    """Return the tenant; the default one may be unsaved."""
    found = Tenant.objects.filter(slug=slug or DEFAULT_TENANT).first()
    if found is None and slug is not None:
        raise UnknownTenant(f"There is no tenant {slug!r}: create it in the admin, or check the slug.")
    # Whoever imports without naming a tenant runs it all: existing files go on as they are.
    return found or Tenant(slug=DEFAULT_TENANT, **OPEN_POLICY)


def _unforeseen(document: ConfigDocument, error: Exception) -> Problem:
    # Only the kind of a database's error is shown: its text may hold the row.
    text = " ".join(error.messages) if isinstance(error, ValidationError) else type(error).__name__
    return Problem(document.filename, 0, 0, "", f"the registry does not take it ({text}): nothing was changed")


class _Plan:
    """What must be written; made by reading only."""

    def __init__(self, document: ConfigDocument, tenant: Tenant, prune: bool, progress: Progress) -> None:
        self._document = document
        self._tenant = tenant
        self._progress = progress
        self._wanted = {backend.name: from_document(backend) for backend in document.backends}
        self._stored = load(tenant) if not tenant._state.adding else {}
        self._changes: list[Change] = []
        if tenant._state.adding:
            self._changes.append(Change("create", "tenant", tenant.slug))
        self._nodes = self._find_nodes()
        self._hostnames = self._find_hostnames()
        self._new: list[str] = []
        self._changed: dict[str, StoredBackend] = {}
        self._compare()
        if problems := list(refused(document, self._wanted, self._stored, tenant)):
            raise ConfigFileError(problems)
        absent = [stored for name, stored in self._stored.items() if name not in self._wanted]
        self._removed = absent if prune else []
        self._changes += [Change("remove", "backend", stored.name) for stored in self._removed]
        self._free_hostnames = self._find_free_hostnames() if prune else []
        self._changes += [Change("remove", "hostname", hostname.name) for hostname in self._free_hostnames]
        self._check_numbers()
        self.summary = ImportSummary(
            tenant=tenant.slug,
            changes=tuple(self._changes),
            unchanged=len(self._wanted) - len(self._new) - len(self._changed),
            left=len(absent) - len(self._removed),
            tenant_enabled=tenant.enabled,
        )

    # -- reading

    def _find_nodes(self) -> dict[str, NexusNode]:
        """Return the nodes by address; those that do not exist are unsaved."""
        addresses = list(dict.fromkeys(address for state in self._wanted.values() for address in state.nodes))
        found: dict[str, NexusNode] = {}
        for part in chunks(addresses):
            found |= {node.address: node for node in NexusNode.objects.filter(address__in=part)}
        missing = [address for address in addresses if address not in found]
        taken = set(NexusNode.objects.values_list("name", flat=True)) if missing else set()
        for address in missing:
            node = NexusNode(name=_node_name(address, taken), address=address)
            taken.add(node.name)
            found[address] = node
            self._changes.append(Change("create", "node", node.name, (address,)))
        return found

    def _find_hostnames(self) -> dict[str, Hostname]:
        """Return the hostnames by name; those that do not exist are unsaved.

        Raises:
            ConfigFileError: the tenant can not have some of them.
        """
        names = list(dict.fromkeys(name for state in self._wanted.values() for name in state.hostnames))
        found: dict[str, Hostname] = {}
        for part in chunks(names):
            found |= {hostname.name: hostname for hostname in Hostname.objects.filter(name__in=part)}
        refused = {
            name: "belongs to another tenant: choose a name that this tenant may own"
            for name, hostname in found.items()
            if hostname.tenant_id != self._tenant.pk
        }
        new = [Hostname(tenant=self._tenant, name=name) for name in names if name not in found]
        refused |= {conflict.row.name: f"is refused: {conflict.message}" for conflict in ownership.conflicts(new)}
        if refused:
            raise ConfigFileError(self._refused_hostnames(refused))
        return found | {hostname.name: hostname for hostname in new}

    def _refused_hostnames(self, refused: dict[str, str]) -> Iterable[Problem]:
        for index, backend in enumerate(self._document.backends):
            for position, name in enumerate(backend.hostnames):
                if name in refused:
                    single = f"backends[{index}].hostname"
                    path = single if single in self._document.positions else f"{single}s[{position}]"
                    yield self._document.problem(path, f"the hostname {name!r} {refused[name]}")

    def _compare(self) -> None:
        for name, wanted in self._wanted.items():
            stored = self._stored.get(name)
            if stored is None:
                self._new.append(name)
                self._changes.append(Change("create", "backend", name, describe(wanted)))
            elif details := differences(stored.state, wanted):
                self._changed[name] = stored
                self._changes.append(Change("change", "backend", name, details))

    def _find_free_hostnames(self) -> list[Hostname]:
        """Return the tenant's hostnames that no backend will serve."""
        if self._tenant._state.adding:
            return []
        served = set(self._hostnames)
        return [hostname for hostname in Hostname.objects.filter(tenant=self._tenant) if hostname.name not in served]

    def _check_numbers(self) -> None:
        """Refuse more than the tenant may have.

        Raises:
            ConfigFileError: the numbers, and the remedy.
        """
        new_hostnames = sum(hostname._state.adding for hostname in self._hostnames.values())
        found = (
            limits.excess(Backend, self._tenant, len(self._new), len(self._removed)),
            limits.excess(Hostname, self._tenant, new_hostnames, len(self._free_hostnames)),
        )
        problems = [Problem(self._document.filename, 0, 0, "", said) for said in found if said]
        if problems:
            raise ConfigFileError(problems)

    # -- writing

    def apply(self) -> None:
        """Write the plan."""
        if not self._changes:
            return
        if self._tenant._state.adding:
            self._tenant.save()
        self._remove("backends", Backend, [stored.pk for stored in self._removed])
        self._remove("hostnames", Hostname, [hostname.pk for hostname in self._free_hostnames])
        self._create("nodes", [node for node in self._nodes.values() if node._state.adding])
        self._create("hostnames", [hostname for hostname in self._hostnames.values() if hostname._state.adding])
        backends = [Backend(tenant=self._tenant, name=name, **self._wanted[name].fields) for name in self._new]
        self._create("backends", backends)
        pairs = [(backend, None, self._wanted[backend.name]) for backend in backends]
        self._write_below([*pairs, *self._update_backends()])

    def _create(self, what: str, rows: Sequence[Any]) -> None:
        for start in range(0, len(rows), BATCH):
            type(rows[0])._default_manager.bulk_create(rows[start : start + BATCH])
            self._progress(f"writing {what}", min(start + BATCH, len(rows)), len(rows))

    def _remove(self, what: str, model: type[Any], keys: Sequence[int]) -> None:
        done = 0
        for part in chunks(keys):
            model.objects.filter(pk__in=part).delete()
            done += len(part)
            self._progress(f"removing {what}", done, len(keys))

    def _update_backends(self) -> list[tuple[Backend, BackendState | None, BackendState]]:
        pairs: list[tuple[Backend, BackendState | None, BackendState]] = []
        names = {stored.pk: name for name, stored in self._changed.items()}
        changed_fields: set[str] = set()
        rows: list[Backend] = []
        for part in chunks(names):
            for backend in Backend.objects.filter(pk__in=part):
                stored, wanted = self._stored[names[backend.pk]].state, self._wanted[names[backend.pk]]
                pairs.append((backend, stored, wanted))
                different = [name for name in FIELDS if getattr(backend, name) != wanted.fields[name]]
                if different:
                    changed_fields.update(different)
                    rows.append(backend)
                    for name in different:
                        setattr(backend, name, wanted.fields[name])
        for part in chunks(rows):
            Backend.objects.bulk_update(part, sorted(changed_fields))
        return pairs

    def _write_below(self, pairs: Sequence[tuple[Backend, BackendState | None, BackendState]]) -> None:
        """Write what hangs on the backends; for each, what is stored (None for a new one) and what is wanted."""
        hostname_links = self._links(
            BackendHostname,
            "hostname",
            [(b, s.hostnames if s else (), w.hostnames) for b, s, w in pairs],
            {name: hostname.pk for name, hostname in self._hostnames.items()},
        )
        self._create("links to hostnames", hostname_links)
        node_links = self._links(
            BackendNode,
            "node",
            [(b, s.nodes if s else (), w.nodes) for b, s, w in pairs],
            {address: node.pk for address, node in self._nodes.items()},
        )
        self._create("links to nodes", node_links)
        self._write_claims(pairs)
        self._write_mappings(pairs)
        self._write_credentials(pairs)

    def _links(
        self,
        model: type[BackendHostname] | type[BackendNode],
        field: str,
        pairs: Iterable[tuple[Backend, Sequence[str], Sequence[str]]],
        keys: dict[str, int],
    ) -> list[Any]:
        """Delete the links that are not wanted any more, move the others, and return those to create."""
        new: list[Any] = []
        kept: dict[int, dict[int, int]] = {}
        for backend, stored, wanted in pairs:
            if tuple(stored) == tuple(wanted):
                continue
            if stored:
                kept[backend.pk] = {keys[value]: place for place, value in enumerate(wanted)}
            new += [
                model(backend=backend, position=place, **{f"{field}_id": keys[value]})
                for place, value in enumerate(wanted)
                if value not in stored
            ]
        gone: list[int] = []
        moved: list[Any] = []
        for part in chunks(kept):
            for link in model.objects.filter(backend_id__in=part):
                place = kept[link.backend_id].get(getattr(link, f"{field}_id"))
                if place is None:
                    gone.append(link.pk)
                elif place != link.position:
                    link.position = place
                    moved.append(link)
        _delete(model, gone)
        for part in chunks(moved):
            model.objects.bulk_update(part, ["position"])
        return new

    def _write_claims(self, pairs: Iterable[tuple[Backend, BackendState | None, BackendState]]) -> None:
        new: list[PortClaim] = []
        changed: dict[int, BackendState] = {}
        for backend, stored, wanted in pairs:
            before = stored.claims if stored else {}
            if before == wanted.claims:
                continue
            if before:
                changed[backend.pk] = wanted
            new += [
                PortClaim(backend=backend, transport=transport, public_port=port, flow_idle_timeout=timeout)
                for (transport, port), timeout in wanted.claims.items()
                if (transport, port) not in before
            ]
        gone: list[int] = []
        updated: list[PortClaim] = []
        for part in chunks(changed):
            for claim in PortClaim.objects.filter(backend_id__in=part):
                claims, key = changed[claim.backend_id].claims, (claim.transport, claim.public_port)
                if key not in claims:
                    gone.append(claim.pk)
                elif claims[key] != claim.flow_idle_timeout:
                    claim.flow_idle_timeout = claims[key]
                    updated.append(claim)
        _delete(PortClaim, gone)
        for part in chunks(updated):
            PortClaim.objects.bulk_update(part, ["flow_idle_timeout"])
        self._create("port claims", new)

    def _write_mappings(self, pairs: Sequence[tuple[Backend, BackendState | None, BackendState]]) -> None:
        new: list[PortMapping] = []
        routes: list[HostRoute] = []
        changed: dict[int, tuple[BackendState, BackendState]] = {}
        for backend, stored, wanted in pairs:
            before = stored.mappings if stored else {}
            if before == wanted.mappings:
                continue
            if stored and before:
                changed[backend.pk] = (stored, wanted)
            for (transport, port), state in wanted.mappings.items():
                if (transport, port) in before:
                    continue
                mapping = PortMapping(backend=backend, transport=transport, public_port=port)
                _set_mapping(mapping, state)
                new.append(mapping)
                routes += [
                    HostRoute(port_mapping=mapping, pattern=pattern, target=target)
                    for pattern, target in state.hosts.items()
                ]
        routes += self._update_mappings(changed)
        self._create("port mappings", new)
        self._create("host routes", routes)

    def _update_mappings(self, changed: dict[int, tuple[BackendState, BackendState]]) -> list[HostRoute]:
        """Delete and update mappings and routes of changed backends, and return the routes to create."""
        gone: list[int] = []
        updated: list[PortMapping] = []
        rerouted: dict[int, dict[str, str]] = {}
        new: list[HostRoute] = []
        for part in chunks(changed):
            for mapping in PortMapping.objects.filter(backend_id__in=part):
                stored, wanted = changed[mapping.backend_id]
                key = (mapping.transport, mapping.public_port)
                if key not in wanted.mappings:
                    gone.append(mapping.pk)
                    continue
                before, after = stored.mappings[key], wanted.mappings[key]
                if (before.default, before.options) != (after.default, after.options):
                    _set_mapping(mapping, after)
                    updated.append(mapping)
                if before.hosts != after.hosts:
                    rerouted[mapping.pk] = dict(after.hosts)
                    new += [
                        HostRoute(port_mapping=mapping, pattern=pattern, target=target)
                        for pattern, target in after.hosts.items()
                        if pattern not in before.hosts
                    ]
        _delete(PortMapping, gone)
        for part in chunks(updated):
            PortMapping.objects.bulk_update(part, ["default_target", *OPTION_FIELDS])
        gone_routes: list[int] = []
        updated_routes: list[HostRoute] = []
        for part in chunks(rerouted):
            for route in HostRoute.objects.filter(port_mapping_id__in=part):
                target = rerouted[route.port_mapping_id].get(route.pattern)
                if target is None:
                    gone_routes.append(route.pk)
                elif target != route.target:
                    route.target = target
                    updated_routes.append(route)
        _delete(HostRoute, gone_routes)
        for part in chunks(updated_routes):
            HostRoute.objects.bulk_update(part, ["target"])
        return new

    def _write_credentials(self, pairs: Iterable[tuple[Backend, BackendState | None, BackendState]]) -> None:
        new: list[Credential] = []
        changed: dict[int, CredentialState] = {}
        for backend, stored, wanted in pairs:
            before = stored.credential if stored else None
            if wanted.credential is None or before == wanted.credential:
                continue
            if before is None:
                new.append(_fill(Credential(backend=backend), wanted.credential))
            else:
                changed[backend.pk] = wanted.credential
        self._create("credentials", new)
        done = 0
        for part in chunks(changed):
            for credential in Credential.objects.filter(backend_id__in=part):
                # One by one: what is derived from a secret follows it in save() only.
                _fill(credential, changed[credential.backend_id]).save()
                done += 1
            self._progress("writing changed credentials", done, len(changed))


def _set_mapping(mapping: PortMapping, state: MappingState) -> None:
    mapping.default_target = state.default
    for name, value in fields_of(state.options).items():
        setattr(mapping, name, value)


def _fill(credential: Credential, state: CredentialState) -> Credential:
    credential.kind = state.kind
    credential.secret = state.secret
    credential.secret_file = state.secret_file
    credential.command = state.command
    credential.args = list(state.args)
    credential.env = dict(state.env) or None
    credential.timeout = state.timeout
    for name in TOKEN_FIELDS:
        setattr(credential, name, getattr(state.options, name))
    return credential


def _delete(model: type[Any], keys: Iterable[int]) -> None:
    for part in chunks(keys):
        model.objects.filter(pk__in=part).delete()


def _node_name(address: str, taken: set[str]) -> str:
    """Return a free name for a node: its host, with what else tells it apart."""
    parts = urlsplit(address)
    base = parts.netloc + ("" if parts.path == "/connect" else parts.path)
    base = base[:190]
    name, number = base, 1
    while name in taken:
        number += 1
        name = f"{base} ({number})"
    return name
