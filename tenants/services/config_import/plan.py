"""The plan of an import: what must be written, found without writing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from relay.config.addresses import without_query
from relay.configfile import ConfigDocument, ConfigFileError, Problem
from tenants.changes.querysets import chunks
from tenants.models import Backend, Hostname, NexusNode, Tenant
from tenants.rules import limits, ownership
from tenants.services.config_import.backend_states import BackendState, StoredBackend, from_document, load
from tenants.services.config_import.checks import refused
from tenants.services.config_import.state_changes import StateChange, describe, differences


@dataclass(frozen=True, slots=True)
class ImportPlan:
    """The rows that an import writes.

    Attributes:
        tenant: whose backends; unsaved where it is to be created.
        wanted: the document's backends, by name.
        stored: the tenant's backends, by name.
        nodes: by address; unsaved where they are to be created.
        hostnames: by name; unsaved where they are to be created.
        new: names of the backends to create.
        changed: names of the backends to change.
        removed: backends to remove.
        free_hostnames: hostnames to remove.
        left: how many backends of the tenant are not in the document and stay.
        changes: all of it for people to read, in the order of the file; removals come last.
    """

    tenant: Tenant
    wanted: Mapping[str, BackendState]
    stored: Mapping[str, StoredBackend]
    nodes: Mapping[str, NexusNode]
    hostnames: Mapping[str, Hostname]
    new: Sequence[str]
    changed: Sequence[str]
    removed: Sequence[StoredBackend]
    free_hostnames: Sequence[Hostname]
    left: int
    changes: tuple[StateChange, ...]


def make_plan(document: ConfigDocument, tenant: Tenant, *, prune: bool) -> ImportPlan:
    """Compare the document with the registry.

    Args:
        tenant: saved or not.
        prune: also remove backends that are not in the document, and hostnames that no backend then serves.

    Raises:
        ConfigFileError: the tenant may not have some of it.
    """
    wanted = {backend.name: from_document(backend) for backend in document.backends}
    stored = {} if tenant._state.adding else load(tenant)
    nodes = _nodes(wanted)
    hostnames = _hostnames(document, wanted, tenant)
    new = [name for name in wanted if name not in stored]
    compared = {name: differences(stored[name].state, state) for name, state in wanted.items() if name in stored}
    changed = [name for name, details in compared.items() if details]
    if problems := list(refused(document, wanted, stored, tenant)):
        raise ConfigFileError(problems)
    absent = [backend for name, backend in stored.items() if name not in wanted]
    removed = absent if prune else []
    free_hostnames = _free_hostnames(tenant, hostnames) if prune else []
    if problems := list(_excess(document, tenant, hostnames, len(new), len(removed), len(free_hostnames))):
        raise ConfigFileError(problems)
    changes = [StateChange("create", "tenant", tenant.slug)] if tenant._state.adding else []
    changes += [
        StateChange("create", "node", node.name, (without_query(address),))
        for address, node in nodes.items()
        if node._state.adding
    ]
    for name, state in wanted.items():
        if name not in stored:
            changes.append(StateChange("create", "backend", name, describe(state)))
        elif compared[name]:
            changes.append(StateChange("change", "backend", name, compared[name]))
    changes += [StateChange("remove", "backend", backend.name) for backend in removed]
    changes += [StateChange("remove", "hostname", hostname.name) for hostname in free_hostnames]
    return ImportPlan(
        tenant=tenant,
        wanted=wanted,
        stored=stored,
        nodes=nodes,
        hostnames=hostnames,
        new=new,
        changed=changed,
        removed=removed,
        free_hostnames=free_hostnames,
        left=len(absent) - len(removed),
        changes=tuple(changes),
    )


def _nodes(wanted: Mapping[str, BackendState]) -> dict[str, NexusNode]:
    """Return the nodes by address; those that do not exist are unsaved, and come last."""
    addresses = list(dict.fromkeys(address for state in wanted.values() for address in state.nodes))
    found: dict[str, NexusNode] = {}
    for part in chunks(addresses):
        found |= {node.address: node for node in NexusNode.objects.filter(address__in=part)}
    missing = [address for address in addresses if address not in found]
    taken = set(NexusNode.objects.values_list("name", flat=True)) if missing else set()
    for address in missing:
        found[address] = NexusNode(name=_node_name(address, taken), address=address)
        taken.add(found[address].name)
    return found


def _node_name(address: str, taken: set[str]) -> str:
    """Return a free name for a node: its host, with its path and a number where needed to tell it apart."""
    parts = urlsplit(address)
    base = parts.netloc + ("" if parts.path == "/connect" else parts.path)
    base = base[:190]
    name, number = base, 1
    while name in taken:
        number += 1
        name = f"{base} ({number})"
    return name


def _hostnames(document: ConfigDocument, wanted: Mapping[str, BackendState], tenant: Tenant) -> dict[str, Hostname]:
    """Return the hostnames by name; those that do not exist are unsaved.

    Raises:
        ConfigFileError: the tenant may not have some of them.
    """
    names = list(dict.fromkeys(name for state in wanted.values() for name in state.hostnames))
    found: dict[str, Hostname] = {}
    for part in chunks(names):
        found |= {hostname.name: hostname for hostname in Hostname.objects.filter(name__in=part)}
    problems = {
        name: "belongs to another tenant: choose a name that this tenant may own"
        for name, hostname in found.items()
        if hostname.tenant_id != tenant.pk
    }
    new = [Hostname(tenant=tenant, name=name) for name in names if name not in found]
    problems |= {conflict.row.name: f"is refused: {conflict.message}" for conflict in ownership.conflicts(new)}
    if problems:
        raise ConfigFileError(_at_hostnames(document, problems))
    return found | {hostname.name: hostname for hostname in new}


def _at_hostnames(document: ConfigDocument, problems: Mapping[str, str]) -> Iterator[Problem]:
    """Yield what is wrong with hostnames, at each place in the file."""
    for index, backend in enumerate(document.backends):
        for position, name in enumerate(backend.hostnames):
            if name in problems:
                single = f"backends[{index}].hostname"
                path = single if single in document.positions else f"{single}s[{position}]"
                yield document.problem(path, f"the hostname {name!r} {problems[name]}")


def _free_hostnames(tenant: Tenant, served: Iterable[str]) -> list[Hostname]:
    """Return the tenant's hostnames that no backend will serve."""
    if tenant._state.adding:
        return []
    served = set(served)
    return [hostname for hostname in Hostname.objects.filter(tenant=tenant) if hostname.name not in served]


def _excess(
    document: ConfigDocument,
    tenant: Tenant,
    hostnames: Mapping[str, Hostname],
    new_backends: int,
    removed_backends: int,
    removed_hostnames: int,
) -> Iterator[Problem]:
    """Yield where the tenant would have more than it may: the numbers, and the remedy."""
    new_hostnames = sum(hostname._state.adding for hostname in hostnames.values())
    for message in (
        limits.excess(Backend, tenant, new_backends, removed_backends),
        limits.excess(Hostname, tenant, new_hostnames, removed_hostnames),
    ):
        if message:
            yield Problem(document.filename, 0, 0, "", message)
