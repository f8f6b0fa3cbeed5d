"""Targets against their tenant's policy, before anything is dialled: when they are saved, and for warnings.

Names are judged by their addresses when they are dialled (`relay.targets.dialing`); here only their port is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from django.core.exceptions import ObjectDoesNotExist, ValidationError

from relay.config.target_policy import TargetPolicy, target_refusal
from relay.config.targets import parse_targets
from relay.errors import InvalidValue
from tenants.changes.querysets import chunks
from tenants.models.below_backend import BelowBackends
from tenants.models.target_policy import TARGET_POLICY_FIELDS, policy_of

OUTSIDE_POLICY: Final = "target_policy"
"""The code of the error of a target that the tenant's policy refuses."""

WHERE: Final = '"Where targets may be"'
"""The group of fields, on a tenant's page, that holds its policy; only operators change it."""


@lru_cache(maxsize=65536)
def refusal(targets: str, policy: TargetPolicy) -> str:
    """Return what is said of the first target of a text that the policy refuses; empty without one."""
    try:
        found = parse_targets(targets) if targets else ()
    except InvalidValue:
        return ""  # its field says what is wrong with it
    for target in found:
        if problem := target_refusal(target, (policy,)):
            return f"The target {target} is refused: {problem}."
    return ""


def check_targets(rows: Sequence[Any], using: str, name: str) -> None:
    """Refuse rows with targets that their tenants may not use; for `RegistryModel.check_rows`.

    What is stored already may stay: a policy that was narrowed since must not keep other edits from being saved.

    Args:
        rows: port mappings or host routes.
        name: the field that holds their targets.

    Raises:
        ValidationError: for that field.
    """
    with_targets = [row for row in rows if getattr(row, name)]
    policies = _policies_of(with_targets, using)
    _refuse(with_targets, name, using, {id(row): policies.get(_parent_id(row)) for row in with_targets})


def check_target(row: Any, name: str) -> None:
    """Refuse one row likewise, by its related objects as they are, which may be unsaved; for ``Model.clean``.

    Raises:
        ValidationError: for that field.
    """
    try:
        tenant = row
        for step in row.tenant_lookup.split("__"):
            tenant = getattr(tenant, step)
    except ObjectDoesNotExist:
        return  # that is refused elsewhere
    _refuse([row], name, row._state.db, {id(row): None if tenant is None else tenant_policy(tenant)})


def tenant_policy(tenant: Any) -> TargetPolicy:
    """Return the policy of a tenant."""
    return policy_of({name: getattr(tenant, name) for name in TARGET_POLICY_FIELDS}, "tenant")


def count_refused(policy: TargetPolicy, backends: Any) -> int:
    """Return how many port mappings and host routes of the backends (a queryset) hold a target that is refused."""
    below = BelowBackends(backends.order_by().values("pk"))
    mappings = below.port_mappings.order_by().values_list("default_target", flat=True)
    routes = below.host_routes.order_by().values_list("target", flat=True)
    return sum(bool(refusal(text, policy)) for rows in (mappings, routes) for text in rows.iterator())


def _refuse(rows: Iterable[Any], name: str, using: str | None, policies: Mapping[int, TargetPolicy | None]) -> None:
    refused: list[tuple[Any, str]] = []
    for row in rows:
        policy = policies[id(row)]
        if policy is not None and (problem := refusal(getattr(row, name), policy)):
            refused.append((row, problem))
    if not refused:
        return
    model = type(refused[0][0])
    keys = [row.pk for row, _ in refused if row.pk is not None]
    known = model._base_manager.using(using).filter(pk__in=keys).values_list("pk", name, f"{model.root_field}_id")
    stored = {key: rest for key, *rest in known} if keys else {}
    for row, problem in refused:
        if stored.get(row.pk) != [getattr(row, name), _parent_id(row)]:
            raise ValidationError({name: ValidationError(problem, code=OUTSIDE_POLICY)})


def _policies_of(rows: Sequence[Any], using: str) -> dict[Any, TargetPolicy]:
    """Return the policies of the rows' tenants, by the key of what the rows belong to."""
    if not rows:
        return {}
    model = type(rows[0])
    parent = model._meta.get_field(model.root_field).related_model
    prefix = model.tenant_lookup.partition("__")[2] + "__"
    columns = [f"{prefix}{name}" for name in TARGET_POLICY_FIELDS]
    found: dict[Any, TargetPolicy] = {}
    for part in chunks(dict.fromkeys(map(_parent_id, rows))):
        for row in parent._base_manager.using(using).filter(pk__in=part).values("pk", *columns):
            found[row["pk"]] = policy_of(row, "tenant", prefix)
    return found


def _parent_id(row: Any) -> Any:
    return getattr(row, f"{row.root_field}_id")
