"""The credential on the backend's page: written, never shown."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html_join

from tenants.admin.base import RegistryStackedInline, operator_only
from tenants.admin.forms import RegistryForm
from tenants.admin.secrets import STORED
from tenants.models import SECRET_KINDS, Credential, CredentialKind
from tenants.services import permissions

SHOWN_CLAIMS = 20  # hostnames of a token


class CredentialForm(RegistryForm):
    """Keeps a secret that is not entered anew, unless the kind changes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "kind" in self.fields:
            kinds = {kind.value for kind in permissions.credential_kinds(self.user)} | {self.instance.kind}
            field: Any = self.fields["kind"]
            # With a blank one first: else a browser would choose a kind where no credential is wanted.
            blank = [("", "Select value")] if self.instance.pk is None else []
            field.choices = blank + [choice for choice in field.choices if choice[0] and choice[0] in kinds]
        stored = {"secret": bool(self.instance.fingerprint), "env": self.instance.__dict__.get("env") is not None}
        for name, there in stored.items():
            if there and name in self.fields:
                self.fields[name].widget.attrs["placeholder"] = STORED

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean() or {}
        kind = str(cleaned.get("kind"))
        other_kind = self.instance.pk is not None and kind in SECRET_KINDS and "kind" in self.changed_data
        if other_kind and not cleaned.get("secret"):
            said = CredentialKind(kind).label
            self.add_error("secret", f"Enter the {said}: what is stored is of the kind that it was before.")
        return cleaned

    def _update_errors(self, errors: ValidationError) -> None:
        # The model looks at the stored secret as if it were of the new kind, which says nothing to whoever left it out.
        if "secret" in self.errors and hasattr(errors, "error_dict"):
            errors.error_dict.pop("secret", None)
        super()._update_errors(errors)

    def check_user(self) -> None:
        stored = Credential.objects.filter(pk=self.instance.pk).first() if self.instance.pk is not None else None
        permissions.check_credential(self.user, self.instance, stored)


class CredentialInline(RegistryStackedInline):
    """How the backend authenticates."""

    model = Credential
    form = CredentialForm
    readonly_fields = ("stored_secret", "token_expires", "token_hostnames")
    verbose_name_plural = "credential"
    hide_title = False
    max_num = 1
    extra = extra_when_new = 1  # the empty form shows at once that there is none

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        groups: list[tuple[str | None, dict[str, Any]]] = [
            (None, {"fields": ["kind", "secret", "stored_secret", "token_expires", "token_hostnames"]}),
        ]
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
        """Name the secret without saying anything about it."""
        return f"fingerprint {credential.fingerprint}" if credential.fingerprint else "none"

    @admin.display(description="Token expires")
    def token_expires(self, credential: Credential) -> str:
        """Say until when the token is valid."""
        at = credential.claims_expires_at
        if at is None:
            return "it does not say" if credential.kind == CredentialKind.PRESIGNED_TOKEN else ""
        return f"{at:%Y-%m-%d %H:%M} UTC{' (expired)' if at <= timezone.now() else ''}"

    @admin.display(description="Hostnames in the token")
    def token_hostnames(self, credential: Credential) -> str:
        """List what the token claims."""
        names = credential.claims_hostnames or []
        more = [(f"and {len(names) - SHOWN_CLAIMS} more",)] if len(names) > SHOWN_CLAIMS else []
        return format_html_join(", ", "{}", [*((name,) for name in names[:SHOWN_CLAIMS]), *more])
