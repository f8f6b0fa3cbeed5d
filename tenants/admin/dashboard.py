"""The first page: counts of everything, and the backends that need attention: what is not up comes first."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone

from tenants.admin.navigation import list_address
from tenants.admin.states import LABELS
from tenants.models import Backend, Hostname, NexusNode, Tenant
from tenants.models.below_backend import with_details
from tenants.services.diagnostics import EXPIRES_SOON, backend_diagnostics
from tenants.services.relays.states import State, Troubled, troubled_backends

LISTED = 10  # backends that need attention


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Add what the first page shows; all of it through the gate."""
    models = [model for model in (Backend, Hostname, NexusNode, Tenant) if _seen(request, model)]
    context["counts"] = [_count(request, model) for model in models]
    troubled = troubled_backends(request.user)
    context["states"] = _state_counts(troubled)
    context["reported"] = troubled.reported
    context["enabled_backends"] = (
        Backend.objects.for_user(request.user).filter(enabled=True, tenant__enabled=True).exists()
    )
    keys = list(dict.fromkeys([*troubled.states, *sorted(_doubtful(request))]))[: LISTED + 1]
    rows = {row.pk: row for row in with_details(Backend.objects.filter(pk__in=keys[:LISTED]))}
    context["doubtful"] = [_doubt(rows[key], troubled) for key in keys[:LISTED] if key in rows]
    context["more_doubtful"] = len(keys) > LISTED
    context["can_add_backend"] = admin.site.get_model_admin(Backend).has_add_permission(request)
    context["add_backend"] = reverse("admin:tenants_backend_add")
    return context


def _state_counts(troubled: Troubled) -> list[dict[str, Any]]:
    """Return the states that backends have, other than up, each with its number and the list of those backends."""
    counted = [(state, troubled.count(state)) for state in (State.DOWN, State.DEGRADED, State.UNREPORTED)]
    return [
        {
            "text": f"{state}: {number}{'+' if troubled.capped else ''}",
            "label": LABELS[state],
            "link": f"{list_address(Backend)}?state={state.name.lower()}",
        }
        for state, number in counted
        if number
    ]


def _doubt(backend: Backend, troubled: Troubled) -> dict[str, Any]:
    now = troubled.states.get(backend.pk)
    return {
        "title": str(backend),
        "link": reverse("admin:tenants_backend_change", args=[backend.pk]),
        "state": now,
        "label": LABELS[now.state] if now is not None else "",
        "diagnostics": backend_diagnostics(backend),
    }


def _doubtful(request: HttpRequest) -> set[int]:
    """Return the first backends that need attention, asked one by one: all in one question would read everything."""
    rows: Any = Backend.objects.for_user(request.user).filter(enabled=True, tenant__enabled=True)
    soon = timezone.now() + EXPIRES_SOON
    questions: list[dict[str, Any]] = [
        {"credential__isnull": True},
        {"credential__valid_until__lte": soon},
        {"port_mappings__isnull": True},
        {"node_links__isnull": True},
    ]
    keys: set[int] = set()
    for question in questions:
        keys.update(rows.filter(**question).order_by("pk").values_list("pk", flat=True)[: LISTED + 1])
    return keys


def _seen(request: HttpRequest, model: Any) -> bool:
    return bool(admin.site.get_model_admin(model).has_module_permission(request))


def _count(request: HttpRequest, model: Any) -> dict[str, Any]:
    rows = model.objects.for_user(request.user)
    total = rows.count()
    off = rows.filter(enabled=False).count() if any(f.name == "enabled" for f in model._meta.fields) else 0
    return {
        "title": str(model._meta.verbose_name if total == 1 else model._meta.verbose_name_plural),
        "number": total,
        "note": f"{off} disabled" if off else "",
        "link": list_address(model),
    }
