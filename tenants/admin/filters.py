"""Filters of lists, whose choices pass the gate too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import SEARCH_VAR
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from unfold.contrib.filters.admin import DropdownFilter
from unfold.contrib.filters.forms import SearchForm

from tenants.models import BackendHostname, CredentialKind, NexusNode, Tenant
from tenants.services.diagnostics import EXPIRES_SOON

OFFERED_TENANTS = 200  # in a list to choose from; where there are more, the slug is written


class RefusesNul:
    """An admin class whose list takes no filter with a NUL in it: PostgreSQL fails at those, and no row has one."""

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        if any("\0" in value for name, values in request.GET.lists() if name != SEARCH_VAR for value in values):
            raise IncorrectLookupParameters
        return super().get_changelist_instance(request)  # type: ignore[misc]


class TenantFilter(DropdownFilter):
    """The tenants whose rows the user sees; nothing to choose where it is one."""

    title = "tenant"
    parameter_name = "tenant"
    tenant_lookup = "tenant_id"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        rows = Tenant.objects.for_user(request.user).values_list("pk", "slug")
        found = [(str(key), slug) for key, slug in rows[: OFFERED_TENANTS + 1]]
        self.many = len(found) > OFFERED_TENANTS
        return found if len(found) > 1 else []

    def choices(self, changelist: Any) -> Iterator[dict[str, Any]]:
        if not self.many:
            yield from super().choices(changelist)
            return
        name = self.parameter_name
        yield {"form": SearchForm(label=f" By {self.title} (slug) ", name=name, data={name: self.value()})}

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        if not value or not (self.many or is_key(value)):
            return queryset
        chosen = {"pk": value} if is_key(value) else {"slug": str(value).strip().replace("\0", "")}
        # Read first: a database that knows the key chooses a better way to the rows than one that has to join.
        key = Tenant.objects.for_user(request.user).filter(**chosen).values_list("pk", flat=True).first()
        return queryset.none() if key is None else queryset.filter(**{self.tenant_lookup: key})


class NodeFilter(DropdownFilter):
    """The nodes of backends."""

    title = "node"
    parameter_name = "node"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        found = NexusNode.objects.for_user(request.user).values_list("pk", "name")
        return [(str(key), name) for key, name in found]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(nodes=self.value()) if is_key(self.value()) else queryset


class CredentialFilter(DropdownFilter):
    """What a backend authenticates with, and tokens that are or will soon be worthless."""

    title = "credential"
    parameter_name = "credential"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        kinds = [(kind.value, str(kind.label)) for kind in CredentialKind]
        return [
            ("expired", "expired"),
            ("expiring", f"expires within {EXPIRES_SOON.days} days"),
            ("none", "none"),
            *kinds,
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        now = timezone.now()
        chosen: dict[str, Q] = {
            "expired": Q(credential__valid_until__lte=now),
            "expiring": Q(credential__valid_until__gt=now, credential__valid_until__lte=now + EXPIRES_SOON),
            "none": Q(credential__isnull=True),
        }
        value = self.value()
        if value in chosen:
            return queryset.filter(chosen[value])
        return queryset.filter(credential__kind=value) if value in CredentialKind.values else queryset


class ServedFilter(admin.SimpleListFilter):
    """Whether a backend serves the hostname."""

    title = "served"
    parameter_name = "served"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        return [("yes", "by a backend"), ("no", "by none")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        served = Exists(BackendHostname.objects.filter(hostname=OuterRef("pk")))
        if self.value() == "yes":
            return queryset.filter(served)
        return queryset.filter(~served) if self.value() == "no" else queryset


def is_key(value: Any) -> bool:
    """Tell whether a text from an address or a form can be the key of a row; no database chokes on one that can."""
    return isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19
