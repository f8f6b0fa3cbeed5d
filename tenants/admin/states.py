"""What is so now, on the pages: labels, a filter of the list of backends, and what the pages of rows show."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.loader import render_to_string

from tenants.services.relays.states import BackendState, State, troubled_backends

LABELS: Final[Mapping[State, str]] = {
    State.UP: "success",
    State.DEGRADED: "warning",
    State.DOWN: "danger",
    State.UNREPORTED: "",
    State.OFF: "",
}
"""The colour of each state, by Unfold's names."""

CONFIGURED: Final = {"on": "info", "off": ""}
"""The colours of what is configured: green is for what is so."""


def state_cell(state: State, sentence: str = "") -> str:
    """Return the label of a state with its sentence below, as HTML."""
    return render_to_string(
        "tenants/admin/state_cell.html", {"state": state, "label": LABELS[state], "sentence": sentence}
    )


def state_context(found: BackendState) -> dict[str, Any]:
    """Return what the page of a backend shows."""
    return {
        "state_now": found,
        "state_label": LABELS[found.state],
        "nodes_now": [(node, LABELS[node.state]) for node in found.nodes],
    }


class StateFilter(admin.SimpleListFilter):
    """Backends that are enabled and not up, as relays report."""

    title = "state now"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        return [(state.name.lower(), str(state)) for state in (State.DOWN, State.DEGRADED, State.UNREPORTED)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        chosen = {state.name.lower(): state for state in State}.get(str(self.value()))
        if chosen is None or self.value() not in dict(self.lookup_choices):
            return queryset
        found = troubled_backends(request.user)
        if not found.reported:
            every = queryset.filter(enabled=True, tenant__enabled=True)
            return every if chosen is State.UNREPORTED else queryset.none()
        return queryset.filter(pk__in=[pk for pk, state in found.states.items() if state.state is chosen])
