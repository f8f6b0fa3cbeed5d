"""Backends: all of one on one page."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db import DEFAULT_DB_ALIAS
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.html import format_html
from unfold.decorators import display
from unfold.views import ChangeList

from tenants.admin.backend_hostname import HostnameOfBackendInline
from tenants.admin.backend_node import BackendNodeInline
from tenants.admin.base import RegistryAdmin, operator_only
from tenants.admin.credential import CredentialInline
from tenants.admin.diagnostics import show_diagnostics
from tenants.admin.filters import CredentialFilter, NodeFilter, TenantFilter
from tenants.admin.forms import RegistryForm
from tenants.admin.issued_token import IssuesTokens
from tenants.admin.port_claim import PortClaimInline
from tenants.admin.port_mapping import PortMappingInline
from tenants.admin.resolve import resolve_view
from tenants.admin.states import CONFIGURED, StateFilter, state_cell, state_context
from tenants.models import Backend, RemovalMode
from tenants.models.below_backend import with_details
from tenants.rules import limits
from tenants.services.access import permissions
from tenants.services.diagnostics import backend_diagnostics
from tenants.services.relays.states import backend_states

SHOWN_HOSTNAMES = 2  # in the list


class BackendForm(RegistryForm):
    """A backend's own settings."""

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean() or {}
        for name in ("health_check_inactivity_timeout", "health_check_pong_timeout"):
            if cleaned.get(name) == 0:  # the model's constraint is one for both, and could not say which
                self.add_error(name, "Enter 1 second or more; to probe no streams, switch the health check off.")
        return cleaned

    def check_user(self) -> None:
        stored = Backend.objects.filter(pk=self.instance.pk).first() if self.instance.pk is not None else None
        permissions.check_backend(self.user, self.instance, stored)
        if stored is None:
            limits.check_numbers([self.instance], self.instance._state.db or DEFAULT_DB_ALIAS)


class BackendList(ChangeList):
    """Paginator that reads what the columns show for all backends of the page at once."""

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet[Any]:
        return with_details(super().get_queryset(request, exclude_parameters))

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        states = backend_states(self.result_list, request.user)
        for backend in self.result_list:
            backend.state_now = states[backend.pk]


class BackendAdmin(IssuesTokens, RegistryAdmin):
    """One backend with its nodes, hostnames, ports, routes and credential."""

    form = BackendForm
    change_form_outer_before_template = "tenants/admin/backend_state.html"
    list_display = (
        "name",
        "tenant_slug",
        "enabled_label",
        "state_shown",
        "hostnames_shown",
        "nodes_shown",
        "target",
        "warnings",
    )
    list_display_links = ("name",)
    list_filter = (TenantFilter, "enabled", StateFilter, NodeFilter, CredentialFilter)
    list_select_related = ("tenant", "credential")
    search_fields = (
        "name",
        "tenant__slug",
        "hostname_links__hostname__name",
        "port_mappings__default_target",
        "port_mappings__host_routes__pattern",
        "port_mappings__host_routes__target",
    )
    search_help_text = "Name, tenant, hostname or target"
    actions = ("enable", "disable", "disable_at_once")
    actions_detail = ("issue_token",)
    inlines = (BackendNodeInline, HostnameOfBackendInline, PortMappingInline, PortClaimInline, CredentialInline)
    fieldsets = (
        (None, {"fields": ["tenant", "name", "enabled", "weight", "site"]}),
        (
            "Health check and flow control",
            {
                "fields": [
                    "health_check_enabled",
                    "health_check_inactivity_timeout",
                    "health_check_pong_timeout",
                    "flow_high_water",
                    "flow_low_water",
                    "flow_max_buffer",
                ],
                "classes": ["collapse"],
                "description": "Time-outs are in seconds, marks in messages of up to 32 KiB each: low below high, and "
                "that below the largest buffer.",
            },
        ),
        (
            "Outbound (SOCKS5)",
            {
                "fields": ["outbound_allowed", "allowed_outbound_ports", "socks5_listen"],
                "classes": ["collapse"],
                "description": "Lets programs beside the relay connect out through the node.",
            },
        ),
        (
            "Limits",
            {
                "fields": [("max_streams", "streams_per_second"), ("upload_rate", "download_rate")],
                "classes": ["collapse"],
                "description": "Of all its streams together; those of its tenant hold beside them.",
            },
        ),
        ("When it is removed", {"fields": [("removal_mode", "removal_seconds")], "classes": ["collapse"]}),
    )

    def get_autocomplete_fields(self, request: HttpRequest) -> tuple[str, ...]:
        return ("tenant",) if operator_only(request) else ()

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("tenant")

    def get_urls(self) -> list[Any]:
        resolve = path("resolve/", self.admin_site.admin_view(resolve_view), name="tenants_resolve")
        return [resolve, *super().get_urls()]

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return BackendList

    # -- switching off

    @admin.action(description="Disable selected backends, let live streams drain", permissions=["change"])
    def disable(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Switch the chosen backends off; their streams may go on until the deadline."""
        self.switch(request, queryset, enabled=False, removal_mode=RemovalMode.DRAIN)

    @admin.action(description="Disable selected backends, cut live streams", permissions=["change"])
    def disable_at_once(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Switch the chosen backends off and end their streams, also those that drain still."""
        self.switch(request, queryset, enabled=False, removal_mode=RemovalMode.KILL)

    # -- columns

    @admin.display(description="Tenant", ordering="tenant__slug")
    def tenant_slug(self, backend: Backend) -> str:
        """Name the tenant."""
        return backend.tenant.slug

    @display(description="Configured", label=CONFIGURED)
    def enabled_label(self, backend: Backend) -> str:
        """Return whether it is to be served; a disabled tenant's backends are not."""
        return "on" if backend.enabled and backend.tenant.enabled else "off"

    @admin.display(description="State now")
    def state_shown(self, backend: Any) -> str:
        """Return whether it is served, as relays report."""
        return state_cell(backend.state_now.state, backend.state_now.sentence if backend.state_now.since else "")

    @admin.display(description="Hostnames")
    def hostnames_shown(self, backend: Backend) -> str:
        """Name the first hostnames and count the others."""
        names = [link.hostname.name for link in backend.hostname_links.all()]
        more = f" +{len(names) - SHOWN_HOSTNAMES}" if len(names) > SHOWN_HOSTNAMES else ""
        return ", ".join(names[:SHOWN_HOSTNAMES]) + more

    @admin.display(description="Nodes")
    def nodes_shown(self, backend: Backend) -> str:
        """Name the nodes."""
        return ", ".join(link.node.name for link in backend.node_links.all())

    @admin.display(description="Target")
    def target(self, backend: Backend) -> str:
        """Name where the first port mapping leads."""
        mappings = list(backend.port_mappings.all())
        if not mappings:
            return ""
        first = mappings[0]
        routes = list(first.host_routes.all())
        shown = first.default_target or (routes[0].target if routes else "")
        others = len(mappings) - 1 + len(routes) - (0 if first.default_target else min(len(routes), 1))
        return f"{shown} +{others}" if others else shown

    @admin.display(description="Warnings")
    def warnings(self, backend: Backend) -> str:
        """Return what most likely does not work."""
        found = backend_diagnostics(backend)
        if not found:
            return ""
        return format_html(
            '<span class="registry-warning" title="{}">{}{}</span>',
            "\n".join(found),
            found[0],
            f" (+{len(found) - 1})" if len(found) > 1 else "",
        )

    # -- the page

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        backend = context.get("original")
        if backend is not None:
            rows = with_details(Backend.objects.filter(pk=backend.pk))
            context |= state_context(backend_states(rows, request.user)[backend.pk])
        return super().render_change_form(request, context, *args, **kwargs)

    # -- after a save

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: Any = None) -> HttpResponse:
        show_diagnostics(self, request, obj)
        return super().response_add(request, obj, post_url_continue)

    def response_change(self, request: HttpRequest, obj: Any) -> HttpResponse:
        show_diagnostics(self, request, obj)
        return super().response_change(request, obj)
