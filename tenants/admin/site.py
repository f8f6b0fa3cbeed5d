"""Sites, and where the targets of what their relays serve may be: operators only."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Count, Field, IntegerField, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest

from tenants.admin import target_policy
from tenants.admin.base import RegistryAdmin
from tenants.models import TARGET_POLICY_FIELDS, Backend, policy_of


class SiteAdmin(RegistryAdmin):
    """A site's bounds, beside those of each tenant."""

    view_roles = frozenset()
    list_display = ("slug", "target_networks", "target_ports", "target_unix", "backend_count")
    search_fields = ("slug",)
    search_help_text = "Slug"
    fieldsets = (
        (None, {"fields": ["slug"]}),
        target_policy.fieldset(
            "For all that relays with this --site serve: a target must be allowed to its tenant, and here. A site "
            "without a page of its own bounds nothing."
        ),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        named = Backend.objects.for_user(request.user).filter(site=OuterRef("slug")).order_by().values("site")
        number = Subquery(named.annotate(number=Count("pk")).values("number"), output_field=IntegerField())
        return super().get_queryset(request).annotate(named_by=Coalesce(number, 0))

    def formfield_for_dbfield(self, db_field: Field, request: HttpRequest, **kwargs: Any) -> Any:
        return super().formfield_for_dbfield(db_field, request, **kwargs | target_policy.widget_for(db_field))

    @admin.display(description="Backends", ordering="named_by")
    def backend_count(self, site: Any) -> int:
        """Count the backends that are for this site alone."""
        number: int = site.named_by
        return number

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        policy = policy_of({name: getattr(obj, name) for name in TARGET_POLICY_FIELDS}, "site")
        target_policy.warn_of_refused(self, request, form, policy, Backend.objects.filter(site=obj.slug))
