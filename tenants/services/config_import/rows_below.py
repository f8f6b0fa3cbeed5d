"""Write what hangs on backends: links to hostnames and nodes, port claims, port mappings, host routes, credentials."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from tenants.changes.querysets import chunks
from tenants.models import (
    OPTION_FIELDS,
    Backend,
    BackendHostname,
    BackendNode,
    Credential,
    HostRoute,
    PortClaim,
    PortMapping,
    fields_of,
)
from tenants.services.config_import.backend_states import TOKEN_FIELDS, BackendState, CredentialState, MappingState

BATCH: Final = 2_000  # rows in one bulk operation

Progress = Callable[[str, int, int], None]
"""Is told what is done, how much of it, and how much there is."""


class BackendChange(NamedTuple):
    """A saved backend, what the registry holds of it (None for a new one), and what it is to hold."""

    backend: Backend
    stored: BackendState | None
    wanted: BackendState


def write_below(
    changes: Sequence[BackendChange], *, hostnames: Mapping[str, int], nodes: Mapping[str, int], progress: Progress
) -> None:
    """Write what hangs on the backends.

    Args:
        hostnames: primary keys, by name.
        nodes: primary keys, by address.
    """
    links = _links(
        BackendHostname, "hostname", [(b, s.hostnames if s else (), w.hostnames) for b, s, w in changes], hostnames
    )
    create("links to hostnames", links, progress)
    links = _links(BackendNode, "node", [(b, s.nodes if s else (), w.nodes) for b, s, w in changes], nodes)
    create("links to nodes", links, progress)
    _write_claims(changes, progress)
    _write_mappings(changes, progress)
    _write_credentials(changes, progress)


def create(what: str, rows: Sequence[Any], progress: Progress) -> None:
    """Create rows of one model in batches."""
    for start in range(0, len(rows), BATCH):
        type(rows[0])._default_manager.bulk_create(rows[start : start + BATCH])
        progress(f"writing {what}", min(start + BATCH, len(rows)), len(rows))


def _links(
    model: type[BackendHostname] | type[BackendNode],
    field: str,
    pairs: Iterable[tuple[Backend, Sequence[str], Sequence[str]]],
    keys: Mapping[str, int],
) -> list[Any]:
    """Delete the links that are no longer wanted, move the others, and return those to create."""
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


def _write_claims(changes: Iterable[BackendChange], progress: Progress) -> None:
    new: list[PortClaim] = []
    changed: dict[int, BackendState] = {}
    for backend, stored, wanted in changes:
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
    create("port claims", new, progress)


def _write_mappings(changes: Iterable[BackendChange], progress: Progress) -> None:
    new: list[PortMapping] = []
    routes: list[HostRoute] = []
    changed: dict[int, tuple[BackendState, BackendState]] = {}
    for backend, stored, wanted in changes:
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
    routes += _update_mappings(changed)
    create("port mappings", new, progress)
    create("host routes", routes, progress)


def _update_mappings(changed: dict[int, tuple[BackendState, BackendState]]) -> list[HostRoute]:
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
    _update_routes(rerouted)
    return new


def _update_routes(wanted: dict[int, dict[str, str]]) -> None:
    """Delete and update host routes; the targets are by mapping, then by pattern."""
    gone: list[int] = []
    updated: list[HostRoute] = []
    for part in chunks(wanted):
        for route in HostRoute.objects.filter(port_mapping_id__in=part):
            target = wanted[route.port_mapping_id].get(route.pattern)
            if target is None:
                gone.append(route.pk)
            elif target != route.target:
                route.target = target
                updated.append(route)
    _delete(HostRoute, gone)
    for part in chunks(updated):
        HostRoute.objects.bulk_update(part, ["target"])


def _write_credentials(changes: Iterable[BackendChange], progress: Progress) -> None:
    new: list[Credential] = []
    changed: dict[int, CredentialState] = {}
    for backend, stored, wanted in changes:
        before = stored.credential if stored else None
        if wanted.credential is None or before == wanted.credential:
            continue
        if before is None:
            new.append(_fill(Credential(backend=backend), wanted.credential))
        else:
            changed[backend.pk] = wanted.credential
    create("credentials", new, progress)
    done = 0
    for part in chunks(changed):
        for credential in Credential.objects.filter(backend_id__in=part):
            # One by one: what is derived from a secret follows it in save() only.
            _fill(credential, changed[credential.backend_id]).save()
            done += 1
        progress("writing changed credentials", done, len(changed))


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
