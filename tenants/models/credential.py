"""Credential: how a backend authenticates with its nodes."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables

from relay.config.addresses import check_status_address
from relay.errors import InvalidValue
from tenants.changes.actor import actor_name
from tenants.changes.base import RegistryModel
from tenants.changes.change_log import ChangeKind
from tenants.changes.fingerprints import fingerprint
from tenants.constraints import FieldCheckConstraint
from tenants.fields import EncryptedJSONField, EncryptedTextField, UndecryptableValue
from tenants.models.backend import Backend
from tenants.token_claims import KeptClaims, read_claims
from tenants.validators import check_lines, validate_environment, validate_text_list


class CredentialKind(models.TextChoices):
    """Where the tokens come from."""

    PRESIGNED_TOKEN = "presigned_token", "pre-signed token"
    HMAC_SECRET = "hmac_secret", "HMAC secret"
    HMAC_SECRET_FILE = "hmac_secret_file", "HMAC secret in a file of the relay's machine"
    COMMAND = "command", "command on the relay's machine"
    TENANT_KEY = "tenant_key", "signed with the tenant's key"


SECRET_KINDS = frozenset({CredentialKind.PRESIGNED_TOKEN, CredentialKind.HMAC_SECRET})
_OF_KIND: dict[str, tuple[str, ...]] = {
    CredentialKind.PRESIGNED_TOKEN: ("secret", "next_secret", "next_at"),
    CredentialKind.HMAC_SECRET: ("secret", "next_secret", "next_at"),
    CredentialKind.HMAC_SECRET_FILE: ("secret_file",),
    CredentialKind.COMMAND: ("command", "args", "env"),
    CredentialKind.TENANT_KEY: (),
}
_EMPTY: dict[str, Any] = {
    "secret": None,
    "next_secret": None,
    "next_at": None,
    "secret_file": "",
    "command": "",
    "args": [],
    "env": None,
}
_UNKNOWN: dict[str, Any] = {
    "fingerprint": "",
    "claims_expires_at": None,
    "claims_hostnames": [],
    "claims": {},
    "secret_set_at": None,
    "secret_set_by": "",
    "next_fingerprint": "",
    "next_claims": {},
    "next_expires_at": None,
    "next_set_by": "",
    "valid_until": None,
}
"""What is derived from the two secrets, with the values for a row without them."""


class Credential(RegistryModel):
    """A backend's credential, and what the relay writes into the tokens that it signs with it.

    ``secret``, ``next_secret`` and ``env`` are encrypted at rest. From ``next_at`` on the next secret serves in place
    of the current one by itself: readers of a secret ask `next_serves`, and `tenants.services.tokens.promote`
    tidies the row later. Fingerprints, claims, and when and by whom a secret was
    put here are derived when it is saved. What belongs to another kind than the chosen one is emptied.
    """

    tenant_lookup = "backend__tenant"
    root_kind = ChangeKind.BACKEND
    root_lookup = "backend_id"
    root_field = "backend"
    not_in_bulk_update = frozenset({"kind", "secret", "next_secret", "next_at"})
    operator_fields = frozenset({"secret_file", "command", "args", "env", "timeout"})

    backend = models.OneToOneField(Backend, on_delete=models.CASCADE, related_name="credential")
    kind = models.CharField(max_length=20, choices=CredentialKind.choices)
    secret = EncryptedTextField(
        null=True, blank=True, help_text="The token or HMAC secret; stored encrypted and never shown again."
    )
    next_secret = EncryptedTextField(
        null=True,
        blank=True,
        help_text="Takes the place of the stored one at the instant below; of the same kind, stored encrypted too.",
    )
    next_at = models.DateTimeField(
        "next one serves from",
        null=True,
        blank=True,
        help_text="UTC. Choose an instant before the stored token expires; until then both are valid.",
    )
    secret_file = models.CharField(
        max_length=500, blank=True, help_text="Absolute path on the relay's machine; read again for every token."
    )
    command = models.CharField(
        max_length=500,
        blank=True,
        help_text="Absolute path of a program on the relay's machine that prints a token; one of CREDENTIAL_COMMANDS.",
    )
    args = models.JSONField(
        default=list,
        blank=True,
        validators=[validate_text_list],
        help_text="Its arguments. Not secret: they are clear text in the database, the audit trail, "
        "and the list of the relay's processes. Put secrets into the environment.",
    )
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
    claims = models.JSONField("claims of the token", default=dict, blank=True, editable=False)
    secret_set_at = models.DateTimeField("put here", null=True, blank=True, editable=False)
    secret_set_by = models.CharField("put here by", max_length=200, blank=True, editable=False)
    next_fingerprint = models.CharField(max_length=64, blank=True, editable=False)
    next_claims = models.JSONField("claims of the next token", default=dict, blank=True, editable=False)
    next_expires_at = models.DateTimeField("next token expires", null=True, blank=True, editable=False)
    next_set_by = models.CharField("next one put here by", max_length=200, blank=True, editable=False)
    valid_until = models.DateTimeField("valid until", null=True, blank=True, editable=False, db_index=True)

    class Meta(RegistryModel.Meta):
        ordering = ["backend"]
        constraints = [
            FieldCheckConstraint(
                condition=Q(kind__in=CredentialKind.values),
                name="credential_kind_known",
                field="kind",
                violation_error_message=(
                    "The kind must be presigned_token, hmac_secret, hmac_secret_file, command or tenant_key."
                ),
            ),
            FieldCheckConstraint(
                condition=~Q(kind__in=[kind.value for kind in CredentialKind if kind in SECRET_KINDS])
                | Q(secret__isnull=False),
                name="credential_secret_present",
                field="secret",
                violation_error_message="This kind of credential needs a secret.",
            ),
            FieldCheckConstraint(
                condition=Q(next_secret__isnull=True, next_at__isnull=True)
                | Q(next_secret__isnull=False, next_at__isnull=False),
                name="credential_next_complete",
                field="next_at",
                violation_error_message="A next secret needs the instant from which it serves, and that a next secret.",
            ),
            FieldCheckConstraint(
                condition=~Q(kind=CredentialKind.HMAC_SECRET_FILE) | ~Q(secret_file=""),
                name="credential_secret_file_present",
                field="secret_file",
                violation_error_message="This kind of credential needs the path of the secret's file.",
            ),
            FieldCheckConstraint(
                condition=~Q(kind=CredentialKind.COMMAND) | ~Q(command=""),
                name="credential_command_present",
                field="command",
                violation_error_message="This kind of credential needs a command.",
            ),
            FieldCheckConstraint(
                condition=Q(timeout__gte=1) & Q(token_ttl__gte=1),
                name="credential_times_positive",
                field="token_ttl",
                violation_error_message="The time-out and the token's lifetime must be 1 second or more.",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display() or 'credential'} of {self.backend}"

    def clean(self) -> None:
        super().clean()
        check_lines(self, "authorizer_status_uri", "policy_version")
        if self.authorizer_status_uri:
            try:
                check_status_address(self.authorizer_status_uri)
            except InvalidValue as error:
                raise ValidationError({"authorizer_status_uri": str(error)}) from None
        self.normalise()

    @sensitive_variables("secret")
    def normalise(self) -> None:
        """Empty what belongs to other kinds, check the chosen one's, and derive fingerprint and claims.

        Raises:
            ValidationError: by field; never with the secret in it.
        """
        super().normalise()
        if self.get_deferred_fields() & {"kind", "secret", "next_secret", "next_at"} or self.kind not in _OF_KIND:
            return
        for name, empty in _EMPTY.items():
            if name not in _OF_KIND[self.kind]:
                setattr(self, name, copy.copy(empty))
        if self.kind not in SECRET_KINDS:
            for name, value in _UNKNOWN.items():
                setattr(self, name, copy.copy(value))
            return
        try:
            secret, next_secret = self.secret, self.next_secret
        except UndecryptableValue:
            return  # The stored value stays as it is until a new one is entered.
        self._derive(*self._checked("secret", secret))
        if (next_secret is None) != (self.next_at is None):
            lacks, has = ("next_at", "a next secret") if self.next_at is None else ("next_secret", "an instant")
            raise ValidationError({lacks: f"There is {has}: give both, or neither."})
        if next_secret is None:
            self._derive_next("", None)
        else:
            self._derive_next(*self._checked("next_secret", next_secret))
        self.valid_until = self._valid_until()

    @sensitive_variables("secret")
    def _checked(self, name: str, secret: str | None) -> tuple[str, KeptClaims | None]:
        """Return fingerprint and claims of a secret, which is trimmed: what is pasted brings line breaks.

        Raises:
            ValidationError: for the field.
        """
        if not secret or not secret.strip():
            raise ValidationError({name: "Enter the token or secret: this kind of credential needs one."})
        if secret != secret.strip():
            secret = secret.strip()
            setattr(self, name, secret)
        if self.kind != CredentialKind.PRESIGNED_TOKEN:
            return fingerprint(secret), None
        try:
            return fingerprint(secret), read_claims(secret)
        except InvalidValue as error:
            raise ValidationError({name: f"The token {error.problem}: {error.remedy}."}) from None

    def _derive(self, digest: str, claims: KeptClaims | None) -> None:
        if digest != self.fingerprint or self.secret_set_at is None:
            self.secret_set_at, self.secret_set_by = timezone.now(), actor_name()
        self.fingerprint = digest
        self.claims_expires_at = claims.expires_at if claims else None
        self.claims_hostnames = list(claims.hostnames) if claims else []
        self.claims = claims.as_json if claims else {}

    def _derive_next(self, digest: str, claims: KeptClaims | None) -> None:
        if digest != self.next_fingerprint:
            self.next_set_by = actor_name() if digest else ""
        self.next_fingerprint = digest
        self.next_claims = claims.as_json if claims else {}
        self.next_expires_at = claims.expires_at if claims else None

    def _valid_until(self) -> datetime | None:
        """Return when the last token ends that serves without a gap; None for never."""
        if self.claims_expires_at is None and self.next_at is None:
            return None
        takes_over = self.next_at is not None and (
            self.claims_expires_at is None or self.next_at <= self.claims_expires_at
        )
        return self.next_expires_at if takes_over else self.claims_expires_at

    # -- what serves

    def next_serves(self, now: datetime | None = None) -> bool:
        """Tell whether the instant has come from which the next secret serves."""
        return self.next_at is not None and self.next_at <= (now or timezone.now())

    def take_next(self) -> None:
        """Put the next secret in place of the stored one; without decrypting it where that is not needed."""
        self.__dict__["secret"] = self.__dict__["next_secret"]
        self.secret_set_at, self.secret_set_by = self.next_at, self.next_set_by
        self.fingerprint = self.next_fingerprint  # so that it does not look like one that was just put here
        self.next_secret = self.next_at = None

    def save(self, *, update_fields: Iterable[str] | None = None, **kwargs: Any) -> None:
        """As `RegistryModel.save`; what is derived from a written secret or kind is written with it."""
        if update_fields is not None:
            names = set(update_fields)
            written = names & {"kind", "secret", "next_secret", "next_at"}
            update_fields = names | {*_UNKNOWN, *_EMPTY} if written else names
        super().save(update_fields=update_fields, **kwargs)

    save.alters_data = True  # type: ignore[attr-defined]
