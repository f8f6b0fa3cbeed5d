"""Write the plan of an import: tenant, nodes, hostnames and backends; then the rows below the backends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tenants.changes.querysets import chunks
from tenants.models import Backend, Hostname
from tenants.services.config_import.backend_states import FIELDS
from tenants.services.config_import.plan import ImportPlan
from tenants.services.config_import.rows_below import BackendChange, Progress, create, write_below


def apply_plan(plan: ImportPlan, progress: Progress) -> None:
    """Write the plan, in as few queries as fit; inside a transaction that holds the generation's lock."""
    if not plan.changes:
        return
    if plan.tenant._state.adding:
        plan.tenant.save()
    _remove("backends", Backend, [stored.pk for stored in plan.removed], progress)
    _remove("hostnames", Hostname, [hostname.pk for hostname in plan.free_hostnames], progress)
    create("nodes", [node for node in plan.nodes.values() if node._state.adding], progress)
    create("hostnames", [hostname for hostname in plan.hostnames.values() if hostname._state.adding], progress)
    backends = [Backend(tenant=plan.tenant, name=name, **plan.wanted[name].fields) for name in plan.new]
    create("backends", backends, progress)
    changes = [BackendChange(backend, None, plan.wanted[backend.name]) for backend in backends]
    changes += _update_backends(plan)
    write_below(
        changes,
        hostnames={name: hostname.pk for name, hostname in plan.hostnames.items()},
        nodes={address: node.pk for address, node in plan.nodes.items()},
        progress=progress,
    )


def _remove(what: str, model: type[Any], keys: Sequence[int], progress: Progress) -> None:
    done = 0
    for part in chunks(keys):
        model.objects.filter(pk__in=part).delete()
        done += len(part)
        progress(f"removing {what}", done, len(keys))


def _update_backends(plan: ImportPlan) -> list[BackendChange]:
    """Write the changed fields of the changed backends themselves."""
    changes: list[BackendChange] = []
    names = {plan.stored[name].pk: name for name in plan.changed}
    changed_fields: set[str] = set()
    rows: list[Backend] = []
    for part in chunks(names):
        for backend in Backend.objects.filter(pk__in=part):
            stored, wanted = plan.stored[names[backend.pk]].state, plan.wanted[names[backend.pk]]
            changes.append(BackendChange(backend, stored, wanted))
            different = [name for name in FIELDS if getattr(backend, name) != wanted.fields[name]]
            if different:
                changed_fields.update(different)
                rows.append(backend)
                for name in different:
                    setattr(backend, name, wanted.fields[name])
    for part in chunks(rows):
        Backend.objects.bulk_update(part, sorted(changed_fields))
    return changes
