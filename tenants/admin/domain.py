"""Claims to domains: what to publish, and whether it was found."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db import DEFAULT_DB_ALIAS, transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from unfold.contrib.filters.admin import DropdownFilter
from unfold.decorators import action, display
from unfold.widgets import UnfoldBooleanSwitchWidget

from tenants.admin.base import RegistryAdmin, all_seeing, operator_only
from tenants.admin.filters import TenantFilter
from tenants.admin.forms import RegistryForm
from tenants.models import Domain, VerifiedBy
from tenants.rules import ownership
from tenants.services import domains

MOST_AT_ONCE = 10  # look-ups of one action: without a worker they run before the page is shown
PROVED, PENDING, DOUBTFUL = "proved", "waits for its proof", "record gone"


def state_of(domain: Domain) -> str:
    """Return what has become of a claim."""
    if not domain.is_verified:
        return PENDING
    return DOUBTFUL if domain.problem else PROVED


class StateFilter(DropdownFilter):
    """Filter by state of the claim."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        return [("proved", PROVED), ("pending", PENDING), ("doubtful", DOUBTFUL)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        proved = queryset.filter(verified_at__isnull=False)
        chosen = {
            "proved": proved,
            "pending": queryset.filter(verified_at__isnull=True),
            "doubtful": proved.exclude(problem=""),
        }
        return chosen.get(str(self.value()), queryset)


class DomainForm(RegistryForm):
    """Form of a claim."""

    def check_user(self) -> None:
        Domain.check_rows([self.instance], self.instance._state.db or DEFAULT_DB_ALIAS)


class OperatorsDomainForm(DomainForm):
    """Operators can give a domain at once, and are told what is in the way."""

    given = forms.BooleanField(
        label="give it",
        required=False,
        widget=UnfoldBooleanSwitchWidget,
        help_text="It is the tenant's at once, without a record in the DNS.",
    )

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean() or {}
        if cleaned.get("given"):
            self.instance.prove(VerifiedBy.OPERATOR)
        return cleaned

    def check_user(self) -> None:
        try:
            super().check_user()
        except ValidationError as error:
            raise ValidationError({"name": [*error.messages, *in_the_way(self.instance)]}) from None


def in_the_way(domain: Domain) -> list[str]:
    """Return for operators what keeps a claim from standing, and whose it is."""
    found = ownership.blockers(domain)
    return ["In the way: " + ", ".join(f"{name} of {slug}" for name, slug in found) + "."] if found else []


class DomainAdmin(RegistryAdmin):
    """A tenant's claim. It is proved or deleted, and never changed."""

    list_display = ("name", "tenant_slug", "state_label", "found", "checked_at")
    list_filter = (TenantFilter, StateFilter)
    list_select_related = ("tenant",)
    search_fields = ("name", "tenant__slug")
    search_help_text = "Domain or tenant"
    actions = ("check_now", "give")
    actions_submit_line = ("check_this", "give_this")

    def get_autocomplete_fields(self, request: HttpRequest) -> tuple[str, ...]:
        return ("tenant",) if operator_only(request) else ()

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        kwargs["form"] = OperatorsDomainForm if obj is None and operator_only(request) else DomainForm
        return super().get_form(request, obj, change=change, **kwargs)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        if obj is None:
            return ["tenant", "name", *(["given"] if operator_only(request) else [])]
        shown = ["tenant", "name", "state_label", "record", "found", "checked_at", "verified_by", "verified_at"]
        return [*shown, *(["others"] if all_seeing(request) else [])]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        return [] if obj is None else self.get_fields(request, obj)

    # -- proving

    def has_give_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return whether the user may give domains."""
        return operator_only(request)

    @admin.action(description="Look up the records of selected domains now", permissions=["change"])
    def check_now(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Look for the chosen claims' records, after what is written here is committed."""
        from tenants import tasks  # Celery: for who asks for work, not for who checks or shows pages

        chosen = queryset.exclude(verified_by=VerifiedBy.OPERATOR)  # what is given needs no record
        mine = [row for row in chosen if self.has_change_permission(request, row)]
        left = {tenant_id: domains.checks_left(tenant_id) for tenant_id in {row.tenant_id for row in mine}}
        due: list[Domain] = []
        for row in mine:
            if domains.may_check(row) and left[row.tenant_id] > 0 and len(due) < MOST_AT_ONCE:
                left[row.tenant_id] -= 1
                due.append(row)
        for row in due:
            transaction.on_commit(partial(tasks.look_up_domain, row.pk))
        if due:
            names = ", ".join(row.name for row in due[:3]) + (f" and {len(due) - 3} more" if len(due) > 3 else "")
            self.message_user(request, f"Looking up {names}: the state here tells what was found.", messages.INFO)
        if len(due) < len(mine):
            bounds = f"{MOST_AT_ONCE} at once, {domains.MAX_ASKED} of a tenant in a minute"
            said = f"{len(mine) - len(due)} not looked up: {bounds}, and each again after ten seconds."
            self.message_user(request, said, messages.WARNING)

    @admin.action(description="Give selected domains without proof", permissions=["give"])
    def give(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Give the chosen domains to their tenants; what is in the way of one is shown."""
        for row in queryset.filter(verified_at__isnull=True):
            row.prove(VerifiedBy.OPERATOR)
            try:
                Domain.check_rows([row], row._state.db)  # first, since a refused save would end the transaction
            except ValidationError as error:
                self.message_user(request, " ".join([f"{row}:", *error.messages, *in_the_way(row)]), messages.ERROR)
                continue
            row.save()
            self.message_user(request, f"{row} is given to {row.tenant.slug}.", messages.SUCCESS)

    @action(description="Check now", permissions=["change"])
    def check_this(self, request: HttpRequest, obj: Any) -> None:
        """Look for this claim's record."""
        self.check_now(request, Domain.objects.filter(pk=obj.pk))

    @action(description="Give it without proof", permissions=["give"])
    def give_this(self, request: HttpRequest, obj: Any) -> None:
        """Give this domain to its tenant."""
        self.give(request, Domain.objects.filter(pk=obj.pk))

    # -- columns

    @admin.display(description="Tenant", ordering="tenant__slug")
    def tenant_slug(self, domain: Domain) -> str:
        """Name the tenant."""
        return domain.tenant.slug

    @display(description="State", label={PROVED: "success", PENDING: "info", DOUBTFUL: "warning"})
    def state_label(self, domain: Domain) -> str:
        """Return the state of the claim."""
        return state_of(domain)

    @admin.display(description="Record to publish")
    def record(self, domain: Domain) -> str:
        """Show the record as a zone file has it."""
        return format_html("<code>{}. IN TXT &quot;{}&quot;</code>", domain.record_name, domain.record_value)

    @admin.display(description="Last look-up")
    def found(self, domain: Domain) -> str:
        """Return what was wrong."""
        end = domains.lapses_at(domain)
        if end is not None:
            return f"{domain.problem} If it stays away, the claim waits for its proof again from {end:%Y-%m-%d} on."
        return domain.problem or ("nothing wrong" if domain.checked_at else "not looked up yet")

    @admin.display(description="In the way")
    def others(self, domain: Domain) -> str:
        """Name, for operators, what keeps the claim from standing."""
        rows = [] if domain.is_verified else ownership.blockers(domain)
        return format_html_join("", "{} of {}<br>", rows) if rows else "nothing"
