"""Nexus nodes, which all tenants share: members look, operators edit."""

from __future__ import annotations

from typing import Any, Final

from django import forms
from django.contrib import admin
from django.db.models import Case, CharField, Count, F, IntegerField, OuterRef, QuerySet, Subquery, Value, When
from django.db.models.functions import Coalesce, Left, StrIndex
from django.http import HttpRequest
from unfold.decorators import display
from unfold.views import ChangeList

from relay.config.addresses import without_query
from tenants.admin.base import RegistryAdmin, all_seeing
from tenants.admin.states import CONFIGURED, LABELS, state_cell
from tenants.models import BackendNode, NexusNode
from tenants.services.relays.states import NAMED, node_states, node_troubles

SEEN_ADDRESS: Final = Case(
    When(address__contains="?", then=Left("address", StrIndex("address", Value("?")) - 1)),
    default=F("address"),
    output_field=CharField(),
)
"""`without_query`, for lists and searches: members must not find out a query by searching for it."""


class NodeList(ChangeList):
    """The nodes of one page, with the states of all of them read at once."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        states = node_states(self.result_list, request.user)
        for node in self.result_list:
            node.state_now = states[node.pk]


class NodeAdmin(RegistryAdmin):
    """A node's address and the certificates that its own must chain to."""

    change_form_outer_before_template = "tenants/admin/node_state.html"
    list_display = ("name", "address_shown", "enabled_label", "state_shown", "backend_count")
    list_filter = ("enabled",)
    search_fields = ("name", "seen_address")
    search_help_text = "Name or address"
    actions = ("enable", "disable")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        if all_seeing(request):
            return ["name", "address", "enabled", "ca_pem", "client_certificates"]
        # By what a node is known to the verifier is the operators' business, and what its address has for a query.
        return ["name", "address_shown", "enabled", "ca_pem"]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        return [*super().get_readonly_fields(request, obj), "address_shown"]

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        # Who may not see all of the address must not find it out by asking for parts of it either.
        if lookup.partition("__")[0] == "address" and (request is None or not all_seeing(request)):
            return False
        return super().lookup_allowed(lookup, value, request)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return NodeList

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        node = context.get("original")
        if node is not None:
            state, numbers = node_states([node], request.user)[node.pk]
            context |= {
                "node_now": state,
                "node_numbers": numbers,
                "state_label": LABELS[state],
                "node_troubles": node_troubles(node, request.user) if node.enabled else [],
                "most_named": NAMED,
            }
        return super().render_change_form(request, context, *args, **kwargs)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        mine = BackendNode.objects.for_user(request.user).filter(node=OuterRef("pk")).order_by().values("node")
        number = Subquery(mine.annotate(number=Count("pk")).values("number"), output_field=IntegerField())
        return super().get_queryset(request).annotate(used_by=Coalesce(number, 0), seen_address=SEEN_ADDRESS)

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        if db_field.name == "ca_pem" and isinstance(field, forms.CharField):
            field.widget.attrs.update({"rows": 6, "class": f"{field.widget.attrs.get('class', '')} font-mono"})
        return field

    @admin.display(description="Address", ordering="seen_address")
    def address_shown(self, node: NexusNode) -> str:
        """Return its address, without the query."""
        return without_query(node.address)

    @display(description="Configured", ordering="enabled", label=CONFIGURED)
    def enabled_label(self, node: NexusNode) -> str:
        """Return whether sessions are to be opened to it."""
        return "on" if node.enabled else "off"

    @admin.display(description="State now")
    def state_shown(self, node: Any) -> str:
        """Return whether the user's backends have sessions there, as relays report."""
        return state_cell(*node.state_now)

    @admin.display(description="Backends", ordering="used_by")
    def backend_count(self, node: Any) -> int:
        """Count the backends, of those that the user may see, that open sessions to it."""
        number: int = node.used_by
        return number
