"""TenantKey: what a tenant signs its own tokens with."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, Self

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables

from tenants.changes.base import RegistryModel
from tenants.changes.change_log import ChangeKind
from tenants.changes.fingerprints import fingerprint
from tenants.changes.role import Role
from tenants.constraints import FieldCheckConstraint, FieldUniqueConstraint
from tenants.fields import EncryptedTextField, UndecryptableValue
from tenants.models.tenant import Tenant
from tenants.validators import validate_key_id

LEAST_SECRET: Final = 32
"""Bytes: RFC 7518, section 3.2, for HS256."""

SIGNS: Final = Q(revoked_at__isnull=True, accepted_until__isnull=True)
"""Of the keys that this holds for, the newest signs."""


def new_key_id() -> str:
    """Return a key id that cannot be guessed, so that trying some tells of no tenant's keys."""
    return secrets.token_urlsafe(12)


def new_secret() -> str:
    """Return a new HS256 key: 48 random bytes as text."""
    return secrets.token_urlsafe(48)


class KeyState(models.TextChoices):
    """What a key is good for."""

    ACTIVE = "active", "active"
    RETIRING = "retiring", "retiring"
    RETIRED = "retired", "retired"
    REVOKED = "revoked", "revoked"


class TenantKey(RegistryModel):
    """An HS256 key of one tenant. The newest active one signs; all that are not retired or revoked are accepted.

    The secret is encrypted at rest, never shown, and never changed: a new one is a new key (`services.tenant_keys`).
    A key that is revoked stays so.
    """

    tenant_lookup = "tenant"
    edit_roles = frozenset({Role.OWNER.value})
    # The relay signs with it for any of the tenant's backends.
    root_kind = ChangeKind.TENANT
    root_lookup = "tenant_id"
    root_field = "tenant"
    not_in_bulk_update = frozenset({"tenant", "kid", "secret", "revoked_at"})

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="keys")
    kid = models.CharField(
        "key id",
        max_length=64,
        default=new_key_id,
        editable=False,
        validators=[validate_key_id],
        help_text="Part of the header of every token that it signs.",
    )
    secret = EncryptedTextField(
        blank=True,
        help_text="32 bytes or more; blank for a new random one. Stored encrypted and never shown again.",
    )
    fingerprint = models.CharField(max_length=64, blank=True, editable=False)
    accepted_until = models.DateTimeField(
        null=True, blank=True, help_text="It signs no more, and is accepted until then; blank for one that signs."
    )
    revoked_at = models.DateTimeField("revoked", null=True, blank=True, editable=False)
    revoked_because = models.CharField("why it was revoked", max_length=200, blank=True)

    class Meta(RegistryModel.Meta):
        ordering = ["tenant", "-pk"]
        constraints = [
            FieldUniqueConstraint(
                fields=["kid"],
                name="tenantkey_kid_unique",
                field="secret",
                violation_error_message="A key has this id already.",
            ),
            FieldCheckConstraint(
                condition=~Q(kid="") & ~Q(fingerprint=""),
                name="tenantkey_kid_not_empty",
                field="secret",
                violation_error_message="A key needs an id and a secret.",
            ),
            FieldCheckConstraint(
                condition=Q(revoked_because="") | Q(revoked_at__isnull=False),
                name="tenantkey_revoked_because_revoked",
                field="revoked_because",
                violation_error_message="Only a revoked key has a reason for it: revoke it, or leave the reason out.",
            ),
        ]

    def __str__(self) -> str:
        return f"key {self.kid}"

    def state(self, now: datetime | None = None) -> KeyState:
        """Return what the key is good for."""
        if self.revoked_at is not None:
            return KeyState.REVOKED
        if self.accepted_until is None:
            return KeyState.ACTIVE
        return KeyState.RETIRING if (now or timezone.now()) < self.accepted_until else KeyState.RETIRED

    def clean(self) -> None:
        super().clean()
        self.normalise()

    @sensitive_variables("secret")
    def normalise(self) -> None:
        """Make what is missing, and derive the fingerprint.

        Raises:
            ValidationError: by field; never with the secret in it.
        """
        super().normalise()
        if self.get_deferred_fields() & {"kid", "secret"}:
            return
        self.kid = self.kid or new_key_id()
        try:
            secret = self.secret
        except UndecryptableValue:
            return  # what is stored stays as it is
        if not secret:
            self.secret = secret = new_secret()
        if len(secret.encode()) < LEAST_SECRET:
            raise ValidationError(
                {
                    "secret": f"The secret has {len(secret.encode())} bytes, and HS256 needs {LEAST_SECRET} or more: "
                    "leave it blank for a random one."
                }
            )
        self.fingerprint = fingerprint(secret)

    @classmethod
    def check_own_rows(cls, rows: Sequence[Self], using: str) -> None:
        stored = {
            row.pk: row
            for row in cls._base_manager.using(using).filter(pk__in=[row.pk for row in rows if row.pk is not None])
        }
        for row in rows:
            before: Any = stored.get(row.pk)
            if before is None:
                continue
            if row.differs_from(before, {"tenant", "kid", "secret"}):
                raise ValidationError({"secret": "A key is never changed: make a new one, and this one retires."})
            if before.revoked_at is not None and row.revoked_at != before.revoked_at:
                raise ValidationError({"revoked_because": "A revoked key stays revoked: make a new one."})
