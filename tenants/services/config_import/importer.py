"""Bring a tenant's backends into the state that a configuration file describes: all of it, or nothing."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

from django.core.exceptions import ValidationError
from django.db import DatabaseError, transaction

from relay.configfile import ConfigDocument, ConfigFileError, Problem
from tenants.changes import generations
from tenants.services.audit import since
from tenants.services.config_import.apply import apply_plan
from tenants.services.config_import.plan import make_plan
from tenants.services.config_import.rows_below import Progress
from tenants.services.config_import.state_changes import StateChange
from tenants.services.config_import.tenant import tenant_to_import


@dataclass(frozen=True, slots=True)
class ImportSummary:
    """The result of an import, or what it would do.

    Attributes:
        tenant: slug.
        changes: in the order of the file; removals come last.
        unchanged: backends that are already as the file says.
        left: backends of the tenant that are not in the file and stay because ``prune`` is off.
        tenant_enabled: whether the tenant's backends are served at all.
        version: the registry's when the plan was made (`tenants.services.audit.since`).
    """

    tenant: str
    changes: tuple[StateChange, ...]
    unchanged: int
    left: int
    tenant_enabled: bool
    version: int

    def count(self, action: str, noun: str) -> int:
        """Return how many changes are of this kind."""
        return sum(change.action == action and change.noun == noun for change in self.changes)


def import_config(
    document: ConfigDocument,
    *,
    tenant: str | None = None,
    prune: bool = False,
    dry_run: bool = False,
    planned_at: int | None = None,
    progress: Progress = lambda what, done, total: None,
) -> ImportSummary:
    """Bring the tenant's backends into the state of the document, in one transaction.

    What no file says stays as it is: whether a backend is enabled, its site, names and certificates of nodes. A second
    run finds nothing to change.

    Args:
        tenant: slug of an existing tenant; None for `DEFAULT_TENANT`, which is created if missing.
        prune: also remove the tenant's backends that are not in the document, and its hostnames that no backend serves.
        dry_run: find out what would change, and write nothing.
        planned_at: the version of the plan that somebody has read; None where none was.

    Raises:
        ConfigFileError: the registry refuses it (a hostname belongs to another tenant, a target is outside the
            tenant's bounds), or somebody has changed rows of the tenant since the plan; nothing is changed.
        UnknownTenant: no tenant has this slug.
    """
    # The plan is made under the generation's lock, so that nothing changes between it and the writing.
    with transaction.atomic(), nullcontext() if dry_run else generations.batch():
        version = since.version()
        owner = tenant_to_import(tenant)
        if planned_at is not None and (changed := since.of_tenant(owner, planned_at)):
            raise ConfigFileError([_changed(document, line) for line in since.in_words(changed)])
        plan = make_plan(document, owner, prune=prune)
        if not dry_run:
            try:
                apply_plan(plan, progress)
            except (ValidationError, DatabaseError) as error:
                raise ConfigFileError([_unforeseen(document, error)]) from error
    return ImportSummary(
        tenant=plan.tenant.slug,
        changes=plan.changes,
        unchanged=len(plan.wanted) - len(plan.new) - len(plan.changed),
        left=plan.left,
        tenant_enabled=plan.tenant.enabled,
        version=version,
    )


def _changed(document: ConfigDocument, line: str) -> Problem:
    return Problem(
        document.filename, 0, 0, "", f"not as planned, look at a new plan (--dry-run): {line}; nothing was changed"
    )


def _unforeseen(document: ConfigDocument, error: Exception) -> Problem:
    # Only the kind of a database's error is shown: its text may hold the row.
    text = " ".join(error.messages) if isinstance(error, ValidationError) else type(error).__name__
    return Problem(document.filename, 0, 0, "", f"the registry does not take it ({text}): nothing was changed")
