"""Credential: how a backend authenticates with its nodes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import Q
from django.views.decorators.debug import sensitive_variables

from relay.errors import InvalidValue
from tenants.fields import EncryptedJSONField, EncryptedTextField, UndecryptableValue
from tenants.models.backend import Backend
from tenants.models.base import RegistryModel
from tenants.models.generation import ChangeKind
from tenants.services.fingerprints import fingerprint
from tenants.services.token_claims import read_claims
from tenants.validators import validate_environment, validate_text_list


class CredentialKind(models.TextChoices):
    """Where the tokens come from."""

    PRESIGNED_TOKEN = "presigned_token", "pre-signed token"
    HMAC_SECRET = "hmac_secret", "HMAC secret"
    HMAC_SECRET_FILE = "hmac_secret_file", "HMAC secret in a file of the relay's machine"
    COMMAND = "command", "command on the relay's machine"


SECRET_KINDS = frozenset({CredentialKind.PRESIGNED_TOKEN, CredentialKind.HMAC_SECRET})
_OF_KIND: dict[str, tuple[str, ...]] = {
    CredentialKind.PRESIGNED_TOKEN: ("secret",),
    CredentialKind.HMAC_SECRET: ("secret",),
    CredentialKind.HMAC_SECRET_FILE: ("secret_file",),
    CredentialKind.COMMAND: ("command", "args", "env"),
}
_EMPTY: dict[str, Any] = {"secret": None, "secret_file": "", "command": "", "args": [], "env": None}
_DERIVED = ("fingerprint", "claims_expires_at", "claims_hostnames")


class Credential(RegistryModel):
    """A backend's credential, and what the relay writes into the tokens that it signs with it.

    ``secret`` and ``env`` are encrypted at rest. ``fingerprint`` and the ``claims_…`` fields are derived from the
    secret when it is saved. What belongs to another kind than the chosen one is emptied.
    """

    tenant_lookup = "backend__tenant"
    root_kind = ChangeKind.BACKEND
    root_lookup = "backend_id"
    root_field = "backend"
    not_in_bulk_update = frozenset({"kind", "secret"})

    backend = models.OneToOneField(Backend, on_delete=models.CASCADE, related_name="credential")
    kind = models.CharField(max_length=20, choices=CredentialKind.choices)
    secret = EncryptedTextField(
        null=True, blank=True, help_text="The token or HMAC secret; stored encrypted and never shown again."
    )
    secret_file = models.CharField(
        max_length=500, blank=True, help_text="Absolute path on the relay's machine; read anew for every token."
    )
    command = models.CharField(
        max_length=500, blank=True, help_text="Program on the relay's machine that prints a token."
    )
    args = models.JSONField(default=list, blank=True, validators=[validate_text_list], help_text="Its arguments.")
    env = EncryptedJSONField(
        "environment",
        null=True,
        blank=True,
        validators=[validate_environment],
        help_text='Its environment, as in {"NAME": "value"}; stored encrypted and never shown again.',
    )
    timeout = models.PositiveIntegerField(
        default=15, validators=[MinValueValidator(1)], help_text="Seconds that the command may take."
    )

    token_ttl = models.PositiveIntegerField(
        "token lifetime",
        default=30,
        validators=[MinValueValidator(1)],
        help_text="Seconds that a signed token is valid.",
    )
    cache_handshake = models.PositiveIntegerField(
        default=0, help_text="Seconds that a handshake token may be used again; 0 for never."
    )
    handshake_max_age = models.PositiveIntegerField(
        default=0, help_text="Seconds after which the node refuses a handshake token; 0 leaves the claim out."
    )
    reauth_interval = models.PositiveIntegerField(
        default=0, help_text="Seconds between the node's re-authentications; 0 for none."
    )
    reauth_grace = models.PositiveIntegerField(default=0, help_text="Seconds for an answer; 0 for the node's default.")
    maintenance_grace_cap = models.PositiveIntegerField(
        default=0, help_text="Seconds that the node may postpone a re-authentication; 0 leaves the claim out."
    )
    authorizer_status_uri = models.CharField(
        "authorizer status URI", max_length=500, blank=True, help_text="What the node asks before a re-authentication."
    )
    policy_version = models.CharField(max_length=200, blank=True, help_text="Passed through to the node.")

    fingerprint = models.CharField(max_length=64, blank=True, editable=False)
    claims_expires_at = models.DateTimeField("token expires", null=True, blank=True, editable=False)
    claims_hostnames = models.JSONField("hostnames in the token", default=list, blank=True, editable=False)

    class Meta(RegistryModel.Meta):
        ordering = ["backend"]
        constraints = [
            models.CheckConstraint(
                condition=Q(kind__in=CredentialKind.values),
                name="credential_kind_known",
                violation_error_message="The kind must be presigned_token, hmac_secret, hmac_secret_file or command.",
            ),
            models.CheckConstraint(
                condition=~Q(kind__in=[kind.value for kind in CredentialKind if kind in SECRET_KINDS])
                | Q(secret__isnull=False),
                name="credential_secret_present",
                violation_error_message="This kind of credential needs a secret.",
            ),
            models.CheckConstraint(
                condition=~Q(kind=CredentialKind.HMAC_SECRET_FILE) | ~Q(secret_file=""),
                name="credential_secret_file_present",
                violation_error_message="This kind of credential needs the path of the secret's file.",
            ),
            models.CheckConstraint(
                condition=~Q(kind=CredentialKind.COMMAND) | ~Q(command=""),
                name="credential_command_present",
                violation_error_message="This kind of credential needs a command.",
            ),
            models.CheckConstraint(
                condition=Q(timeout__gte=1) & Q(token_ttl__gte=1),
                name="credential_times_positive",
                violation_error_message="The time-out and the token's lifetime must be 1 second or more.",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display() or 'credential'} of {self.backend}"

    def clean(self) -> None:
        super().clean()
        self.normalise()

    @sensitive_variables("secret")
    def normalise(self) -> None:
        """Empty what belongs to other kinds, check the chosen one's, and derive fingerprint and claims.

        Raises:
            ValidationError: by field; never with the secret in it.
        """
        super().normalise()
        if self.get_deferred_fields() & {"kind", "secret"} or self.kind not in _OF_KIND:
            return
        for name, empty in _EMPTY.items():
            if name not in _OF_KIND[self.kind]:
                setattr(self, name, list(empty) if isinstance(empty, list) else empty)
        if self.kind not in SECRET_KINDS:
            self.fingerprint, self.claims_expires_at, self.claims_hostnames = "", None, []
            return
        try:
            secret = self.secret
        except UndecryptableValue:
            return  # What is stored stays as it is, until someone enters it anew.
        if not secret or not secret.strip():
            raise ValidationError({"secret": "Enter the token or secret: this kind of credential needs one."})
        expires_at, hostnames = None, []
        if self.kind == CredentialKind.PRESIGNED_TOKEN:
            if secret != secret.strip():
                self.secret = secret = secret.strip()
            try:
                claims = read_claims(secret)
            except InvalidValue as error:
                raise ValidationError({"secret": f"The token {error.problem}: {error.remedy}."}) from None
            expires_at, hostnames = claims.expires_at, list(claims.hostnames)
        self.fingerprint, self.claims_expires_at, self.claims_hostnames = fingerprint(secret), expires_at, hostnames

    def save(self, *, update_fields: Iterable[str] | None = None, **kwargs: Any) -> None:
        """As `RegistryModel.save`; what is derived from a written secret or kind is written with it."""
        if update_fields is not None:
            names = set(update_fields)
            update_fields = names | {*_DERIVED, *_EMPTY} if names & {"kind", "secret"} else names
        super().save(update_fields=update_fields, **kwargs)

    save.alters_data = True  # type: ignore[attr-defined]
