"""The usage page: what a tenant's backends carried, and which sessions relays hold for them."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from tenants.admin.gate import visible
from tenants.changes.role import ALL_ROLES
from tenants.models import Tenant
from tenants.services.access.permissions import sees_all
from tenants.services.relays import usage

SPANS = {"1": "last 24 hours", "30": "last 30 days"}
OFFERED = 200  # tenants to choose from


def usage_view(request: HttpRequest) -> HttpResponse:
    """Show one tenant's usage; to operators and auditors also the running relays and the busiest tenants."""
    if not visible(request, None, ALL_ROLES):
        raise PermissionDenied
    span = request.GET.get("days", "1")
    span = span if span in SPANS else "1"
    slug = request.GET.get("tenant", "")
    tenants: Any = Tenant.objects.for_user(request.user)
    everything = sees_all(request.user)
    offered = [] if everything else list(tenants.order_by("slug").values_list("slug", flat=True)[:OFFERED])
    if not slug and len(offered) == 1:
        slug = offered[0]
    tenant = tenants.filter(slug=slug).first() if slug and "\0" not in slug else None
    context: dict[str, Any] = {
        **admin.site.each_context(request),
        "title": "Usage",
        "slug": slug,
        "span": span,
        "spans": SPANS.items(),
        "offered": offered,
        "tenant": tenant,
        "sees_all": everything,
        "most": usage.MOST,
    }
    if tenant is not None:
        days = int(span)
        context |= {
            "by_time": usage.over_time(request.user, tenant, days),
            "by_backend": usage.by_backend(request.user, tenant, days),
            "sessions": usage.live_sessions(request.user, tenant),
        }
    elif everything:
        context |= {"relays": usage.relays(request.user), "busiest": usage.busiest_tenants(request.user)}
    return TemplateResponse(request, "tenants/admin/usage.html", context)
