"""Checks before an import writes: each problem at its place in the file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from relay.config import TokenCommand
from relay.configfile import BackendDocument, ConfigDocument, Problem
from relay.configfile.problems import child
from relay.errors import InvalidValue
from tenants.models import Tenant
from tenants.rules.commands import check_command
from tenants.rules.targets import WHERE, refusal, tenant_policy
from tenants.services.config_import.backend_states import BackendState, StoredBackend


def refused(
    document: ConfigDocument, wanted: Mapping[str, BackendState], stored: Mapping[str, StoredBackend], tenant: Tenant
) -> Iterator[Problem]:
    """Yield what the tenant may not have of what is not stored as it is: targets, and commands that may not run.

    Args:
        wanted: the document's backends by name.
        stored: the tenant's, likewise.
    """
    for index, backend in enumerate(document.backends):
        path = child("backends", index)
        before = stored[backend.name].state if backend.name in stored else None
        for where, text in _refused_targets(path, wanted[backend.name], before, tenant):
            yield document.problem(where, text)
        if problem := _refused_command(backend, before):
            yield document.problem(child(child(path, "attestation"), "command"), problem)


def _refused_targets(
    path: str, wanted: BackendState, before: BackendState | None, tenant: Tenant
) -> Iterator[tuple[str, str]]:
    policy = tenant_policy(tenant)
    if policy.is_open:
        return
    told: set[str] = set()  # a port that is mapped for UDP too is in the file once
    for key, mapping in wanted.mappings.items():
        known = before.mappings.get(key) if before is not None else None
        place = child(child(path, "portMappings"), str(key[1]))
        routes = [(child(place, "default"), mapping.default, known.default if known else "")]
        routes += [
            (child(child(place, "hosts"), pattern), target, known.hosts.get(pattern, "") if known else "")
            for pattern, target in mapping.hosts.items()
        ]
        for where, target, stays in routes:
            if target != stays and where not in told and (problem := refusal(target, policy)):
                told.add(where)
                yield where, f"{problem} Operators allow it in the admin, under {WHERE} of the tenant {tenant.slug}."


def _refused_command(backend: BackendDocument, before: BackendState | None) -> str:
    credential = backend.credential
    if not isinstance(credential, TokenCommand):
        return ""
    if before is not None and before.credential is not None and before.credential.command == credential.command:
        return ""
    try:
        check_command(credential.command)
    except InvalidValue as error:
        return str(error)
    return ""
