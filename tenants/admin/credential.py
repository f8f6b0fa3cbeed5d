"""Credentials: written on the backend's page and never shown; in a list, what ends when."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from unfold.contrib.filters.admin import DropdownFilter
from unfold.decorators import display
from unfold.widgets import UnfoldBooleanSwitchWidget

from relay.config.addresses import without_query
from tenants.admin.base import RegistryAdmin, RegistryStackedInline, operator_only
from tenants.admin.filters import TenantFilter
from tenants.admin.forms import RegistryForm
from tenants.admin.secrets import STORED
from tenants.models import SECRET_KINDS, Credential, CredentialKind, CredentialUse
from tenants.services.access import permissions
from tenants.services.diagnostics import EXPIRES_SOON, NOTICE_DAYS
from tenants.services.tokens.taken import taken

SHOWN_CLAIMS = 20  # values of one claim


class CredentialForm(RegistryForm):
    """Form that keeps a secret that is left blank, unless the kind changes."""

    drop_next = forms.BooleanField(
        label="drop the next one",
        required=False,
        widget=UnfoldBooleanSwitchWidget,
        help_text="What is stored goes on serving.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "kind" in self.fields:
            kinds = {kind.value for kind in permissions.credential_kinds(self.user)} | {self.instance.kind}
            field: Any = self.fields["kind"]
            # With a blank one first: else a browser would choose a kind where no credential is wanted.
            blank = [("", "Select value")] if self.instance.pk is None else []
            field.choices = blank + [choice for choice in field.choices if choice[0] and choice[0] in kinds]
        held = self.instance.__dict__
        stored = {"secret": bool(self.instance.fingerprint), "env": held.get("env") is not None}
        stored["next_secret"] = held.get("next_secret") is not None
        for name, there in stored.items():
            if there and name in self.fields:
                self.fields[name].widget.attrs["placeholder"] = STORED

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean() or {}
        if cleaned.get("drop_next"):
            self.instance.next_secret = cleaned["next_secret"] = cleaned["next_at"] = None
        kind = str(cleaned.get("kind"))
        other_kind = self.instance.pk is not None and kind in SECRET_KINDS and "kind" in self.changed_data
        if other_kind and not cleaned.get("secret"):
            said = CredentialKind(kind).label
            self.add_error("secret", f"Enter the {said}: what is stored is of the kind that it was before.")
        return cleaned

    def _update_errors(self, errors: ValidationError) -> None:
        # The model looks at the stored secret as if it were of the new kind, which the user never meant.
        if "secret" in self.errors and hasattr(errors, "error_dict"):
            errors.error_dict.pop("secret", None)
        super()._update_errors(errors)

    def check_user(self) -> None:
        stored = Credential.objects.filter(pk=self.instance.pk).first() if self.instance.pk is not None else None
        permissions.check_credential(self.user, self.instance, stored)


class CredentialInline(RegistryStackedInline):
    """The backend's credential."""

    model = Credential
    form = CredentialForm
    readonly_fields = ("stored_secret", "last_used", "token_expires", "token_claims", "planned")
    verbose_name_plural = "credential"
    hide_title = False
    max_num = 1
    extra = extra_when_new = 1  # the empty form shows at once that the backend has none

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        groups: list[tuple[str | None, dict[str, Any]]] = [
            (None, {"fields": ["kind", "secret", "stored_secret", "last_used", "token_expires", "token_claims"]}),
            (
                "Next one, beside the stored one",
                {"fields": ["next_secret", "next_at", "planned", "drop_next"], "classes": ["collapse"]},
            ),
        ]
        if not self.has_change_permission(request, obj):
            groups[1] = ("Next one", {"fields": ["planned"]})
        if operator_only(request):
            groups.append(
                (
                    "On the relay's machine (operators only)",
                    {"fields": ["secret_file", "command", "args", "env", "timeout"], "classes": ["collapse"]},
                )
            )
        groups.append(
            (
                "Tokens that the relay signs",
                {
                    "fields": [
                        "token_ttl",
                        "cache_handshake",
                        "handshake_max_age",
                        "reauth_interval",
                        "reauth_grace",
                        "maintenance_grace_cap",
                        "authorizer_status_uri",
                        "policy_version",
                    ],
                    "classes": ["collapse"],
                },
            )
        )
        self.fieldsets = groups
        return super().get_fieldsets(request, obj)

    @admin.display(description="Stored secret")
    def stored_secret(self, credential: Credential) -> str:
        """Name the secret without saying anything about it, and who put it here."""
        if not credential.fingerprint:
            return "none"
        return f"fingerprint {credential.fingerprint}{_put_here(credential.secret_set_at, credential.secret_set_by)}"

    @admin.display(description="Last taken by a node")
    def last_used(self, credential: Credential) -> str:
        """Return when, by which relay and at which node; and that it was another secret, where it was."""
        use = CredentialUse.objects.filter(backend_id=credential.backend_id).first()
        if use is None:
            return "never, as far as relays tell"
        other = use.fingerprint != credential.fingerprint and credential.kind in SECRET_KINDS
        which = f"; with the secret of fingerprint {use.fingerprint or 'unknown'}, not the stored one" if other else ""
        return f"{use.used_at:%Y-%m-%d %H:%M} UTC by {use.relay}, at {use.node}{which}"

    @admin.display(description="Token expires")
    def token_expires(self, credential: Credential) -> str:
        """Return until when the token is valid."""
        at = credential.claims_expires_at
        if at is None:
            return "it does not say" if credential.kind == CredentialKind.PRESIGNED_TOKEN else ""
        return f"{at:%Y-%m-%d %H:%M} UTC{' (expired)' if at <= timezone.now() else ''}"

    @admin.display(description="Claims of the token")
    def token_claims(self, credential: Credential) -> str:
        """Show what the token claims."""
        return claims_table(credential.claims)

    @admin.display(description="Planned")
    def planned(self, credential: Credential) -> str:
        """Name the next secret, its instant and its claims."""
        if credential.next_at is None:
            return "none"
        when = f"fingerprint {credential.next_fingerprint}, serves from {credential.next_at:%Y-%m-%d %H:%M} UTC"
        ends = credential.next_expires_at
        until = f" until {ends:%Y-%m-%d %H:%M} UTC" if ends else ""
        by = _put_here(None, credential.next_set_by)
        return format_html(
            "{}{}{}{}{}", when, until, by, became_of_it(credential), claims_table(credential.next_claims)
        )


class EndsFilter(DropdownFilter):
    """When tokens end."""

    title = "valid until"
    parameter_name = "ends"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        within = [(str(days), f"ends within {days} day{'s' * (days > 1)}") for days in sorted(NOTICE_DAYS)]
        return [("ended", "has ended"), *within, ("never", "does not end")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        now, value = timezone.now(), self.value()
        if value == "ended":
            return queryset.filter(valid_until__lte=now)
        if value == "never":
            return queryset.filter(valid_until__isnull=True)
        if value in map(str, NOTICE_DAYS):
            return queryset.filter(valid_until__gt=now, valid_until__lte=now + timedelta(days=int(value)))
        return queryset


class CredentialTenantFilter(TenantFilter):
    """The tenants of backends."""

    tenant_lookup = "backend__tenant_id"


class CredentialAdmin(RegistryAdmin):
    """All credentials in one list: what ends when. They are edited on their backends' pages, where each leads to."""

    list_display = (
        "backend_name",
        "tenant_slug",
        "kind",
        "fingerprint",
        "state",
        "next_one",
        "secret_set_at",
        "last_used",
    )
    list_filter = (CredentialTenantFilter, "kind", EndsFilter)
    list_select_related = ("backend__tenant", "backend__credential_use")
    sortable_by = ("backend_name", "tenant_slug", "state")
    search_fields = ("backend__name", "backend__tenant__slug", "fingerprint")
    search_help_text = "Backend, tenant or fingerprint"
    ordering = ("backend__tenant__slug", "backend__name")
    list_display_links = None

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        credential = self.get_object(request, object_id)
        if credential is None:
            return self._get_obj_does_not_exist_redirect(request, self.opts, object_id)
        return HttpResponseRedirect(reverse("admin:tenants_backend_change", args=[credential.backend_id]))

    @admin.display(description="Backend", ordering="backend__name")
    def backend_name(self, credential: Credential) -> str:
        """Lead to the backend."""
        address = reverse("admin:tenants_backend_change", args=[credential.backend_id])
        return format_html('<a href="{}" class="underline">{}</a>', address, credential.backend.name)

    @admin.display(description="Tenant", ordering="backend__tenant__slug")
    def tenant_slug(self, credential: Credential) -> str:
        """Name the tenant."""
        return credential.backend.tenant.slug

    @display(
        description="Valid until", ordering="valid_until", label={"ended": "danger", "soon": "warning", "fine": ""}
    )
    def state(self, credential: Credential) -> tuple[str, str]:
        """Return until when it is valid, the next one included where it takes over in time."""
        ends, now = credential.valid_until, timezone.now()
        if ends is None:
            return "fine", "no end" if credential.kind == CredentialKind.PRESIGNED_TOKEN else "signs its own tokens"
        urgency = "ended" if ends <= now else "soon" if ends - now <= EXPIRES_SOON else "fine"
        return urgency, f"{ends:%Y-%m-%d %H:%M} UTC{' (ended)' if ends <= now else ''}"

    @admin.display(description="Next one serves from", ordering="next_at")
    def next_one(self, credential: Credential) -> str:
        """Return when the next one takes over."""
        return f"{credential.next_at:%Y-%m-%d %H:%M} UTC" if credential.next_at else ""

    @admin.display(description="Last taken", ordering="backend__credential_use__used_at")
    def last_used(self, credential: Credential) -> str:
        """Return when a node accepted it last, and which relay offered it."""
        use = getattr(credential.backend, "credential_use", None)
        return "" if use is None else str(use)


def _put_here(at: datetime | None, by: str) -> str:
    return (f", put here{f' on {at:%Y-%m-%d %H:%M} UTC' if at else ''}{f' by {by}' if by else ''}") if at or by else ""


def became_of_it(credential: Credential) -> str:
    """Return which nodes have taken a next secret that serves, and what to do about the others; empty before."""
    if not credential.next_serves():
        return ""
    found = taken(credential)
    parts = [f"taken at {', '.join(map(without_query, found.at))}"] if found.at else []
    parts += [f"not up with it at {without_query(node)}: {problem.rstrip('.')}" for node, problem in found.refused]
    if found.not_at:
        parts.append(f"not taken yet at {', '.join(map(without_query, found.not_at))}")
    if found.at:
        way = "It takes the stored one's place within minutes."
    else:
        way = "Until a node has taken it, the stored one is kept: drop the next one to go back to it."
    said = "; ".join(parts)
    return f". {said[0].upper()}{said[1:]}. {way}" if said else f". {way}"


def _claim_text(value: Any) -> str:
    """Return an item of a claim; of a UDP route its port."""
    return str(value["port"] if isinstance(value, dict) else value)


def claims_table(claims: dict[str, Any]) -> str:
    """Return a table of the claims of a token, as `tenants.token_claims` keeps them."""
    rows = []
    for name, value in claims.items():
        if isinstance(value, list):
            more = [f"and {len(value) - SHOWN_CLAIMS} more"] if len(value) > SHOWN_CLAIMS else []
            value = ", ".join([*map(_claim_text, value[:SHOWN_CLAIMS]), *more])
        if value not in ("", None, False):
            rows.append((name.replace("_", " "), "yes" if value is True else value))
    if not rows:
        return ""
    return format_html(
        '<table class="registry-claims">{}</table>',
        format_html_join("", "<tr><th>{}</th><td>{}</td></tr>", rows),
    )
