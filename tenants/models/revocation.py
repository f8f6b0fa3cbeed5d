"""Revocation: one token that is taken back before it expires."""

from __future__ import annotations

import re
from typing import Final

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q

from tenants.changes.base import RegistryModel
from tenants.changes.change_log import ChangeKind
from tenants.changes.role import Role
from tenants.constraints import FieldCheckConstraint, FieldUniqueConstraint
from tenants.models.tenant import Tenant

_SHA256: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


class Revocation(RegistryModel):
    """A tenant's token, named by its ``jti`` or by its SHA-256, that the verifier refuses from now on.

    Another tenant's tokens are not touched, whatever their ``jti``.
    """

    tenant_lookup = "tenant"
    edit_roles = frozenset({Role.OWNER.value})
    # No relay serves otherwise for it; but the verifier hears of it as of every change.
    root_kind = ChangeKind.TENANT
    root_lookup = "tenant_id"
    root_field = "tenant"
    not_in_bulk_update = frozenset({"tenant"})

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="revocations")
    token_id = models.CharField(
        "token id (jti)", max_length=200, blank=True, help_text="Refuses every token of the tenant that has this id."
    )
    token_hash = models.CharField(
        "SHA-256 of the token", max_length=64, blank=True, help_text="64 hexadecimal digits, as the audit trail has it."
    )
    reason = models.CharField(max_length=200, blank=True)
    expires_at = models.DateTimeField(
        null=True, blank=True, help_text="When the token expires by itself; forgotten a day later. Blank for never."
    )

    class Meta(RegistryModel.Meta):
        ordering = ["-pk"]
        constraints = [
            FieldUniqueConstraint(
                fields=["tenant", "token_id", "token_hash"],
                name="revocation_unique",
                field="token_id",
                violation_error_message="This token is revoked already.",
            ),
            FieldCheckConstraint(
                condition=(Q(token_id="") & ~Q(token_hash="")) | (~Q(token_id="") & Q(token_hash="")),
                name="revocation_names_one",
                field="token_id",
                violation_error_message="Name the token by its id or by its SHA-256: one of the two.",
            ),
        ]

    def __str__(self) -> str:
        return f"token {self.token_id or self.token_hash[:16]}"

    def clean(self) -> None:
        super().clean()
        self.normalise()

    def normalise(self) -> None:
        """Bring the digits into lower case.

        Raises:
            ValidationError: they are not a SHA-256.
        """
        super().normalise()
        self.token_hash = self.token_hash.strip().lower()
        if self.token_hash and not _SHA256.fullmatch(self.token_hash):
            raise ValidationError({"token_hash": "This is not a SHA-256: write its 64 hexadecimal digits."})
