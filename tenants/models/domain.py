"""Domain: a tenant's claim on a name of the DNS and all that is under it."""

from __future__ import annotations

import secrets
from typing import Final

from django.db import models
from django.db.models import Q
from django.utils import timezone

from tenants.changes.base import RegistryModel
from tenants.constraints import FieldCheckConstraint, FieldUniqueConstraint
from tenants.fields import NormalisedCharField
from tenants.models.tenant import Tenant
from tenants.models.tree_name import DERIVED, TreeName, tree_indexes
from tenants.validators import DOMAIN_LENGTH, normal_domain

RECORD_LABEL: Final = "_nexusadmin"
RECORD_VALUE: Final = "nexusadmin-domain="


class VerifiedBy(models.TextChoices):
    """What a claim was proved by."""

    DNS = "dns", "DNS record"
    OPERATOR = "operator", "operator"


def new_token() -> str:
    """Return what one claim's record says, so that the record of one tenant proves no other's claim."""
    return secrets.token_hex(16)


class Domain(TreeName, RegistryModel):
    """A claim, which waits until it is proved; then the domain and every name under it is the tenant's.

    A proved claim stays until it is deleted, or until its record has been gone for `DOMAIN_GRACE_DAYS`. Nothing is
    routed by it, so it is no change for the relays.
    """

    tenant_lookup = "tenant"
    not_in_bulk_update = DERIVED | {"tenant", "name", "token", "verified_by", "verified_at"}
    not_on_record = RegistryModel.not_on_record | DERIVED | {"checked_at"}

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="domains")
    name = NormalisedCharField(
        "domain",
        max_length=DOMAIN_LENGTH,
        check=normal_domain,
        help_text="example.com covers itself and every name under it.",
    )
    token = models.CharField(max_length=64, default=new_token, editable=False)
    verified_by = models.CharField(
        "proved by", max_length=10, choices=VerifiedBy.choices, blank=True, default="", editable=False
    )
    verified_at = models.DateTimeField("proved", null=True, blank=True, editable=False)
    checked_at = models.DateTimeField("looked up", null=True, blank=True, editable=False)
    missing_since = models.DateTimeField(
        "record gone since",
        null=True,
        blank=True,
        editable=False,
        help_text="Since when the record that proved it is known to be gone, and the owners were told.",
    )
    problem = models.TextField(blank=True, editable=False, help_text="What the last look-up found wrong, in words.")

    class Meta(RegistryModel.Meta):
        ordering = ["name", "pk"]
        constraints = [
            FieldUniqueConstraint(
                fields=["tenant", "name"],
                name="domain_tenant_name_unique",
                field="name",
                violation_error_message="The tenant claims this domain already.",
            ),
            FieldUniqueConstraint(
                fields=["name"],
                condition=Q(verified_at__isnull=False),
                name="domain_verified_name_unique",
                field="name",
                violation_error_message="Another tenant has proved its claim to this domain: an operator has to settle "
                "whose it is.",
            ),
            FieldCheckConstraint(
                condition=~Q(name="") & ~Q(token=""),
                name="domain_name_token_not_empty",
                field="name",
                violation_error_message="A claim needs a domain and a token.",
            ),
            FieldCheckConstraint(
                condition=Q(verified_by="", verified_at__isnull=True)
                | Q(verified_by__in=VerifiedBy.values, verified_at__isnull=False),
                name="domain_verified_by_known",
                field="name",
                violation_error_message="A claim is proved by a DNS record or by an operator, at some instant, or not "
                "yet.",
            ),
            FieldCheckConstraint(
                condition=Q(missing_since__isnull=True) | Q(verified_by=VerifiedBy.DNS),
                name="domain_missing_only_if_proved_by_dns",
                field="name",
                violation_error_message="Only the record of a claim that the DNS proved can be gone.",
            ),
        ]
        indexes = tree_indexes("domain")

    def __str__(self) -> str:
        return str(self.name)

    @property
    def is_verified(self) -> bool:
        """Whether the claim is proved."""
        return self.verified_at is not None

    @property
    def record_name(self) -> str:
        """The name of the TXT record that proves it."""
        return f"{RECORD_LABEL}.{self.name}"

    @property
    def record_value(self) -> str:
        """What that record says."""
        return f"{RECORD_VALUE}{self.token}"

    def prove(self, by: VerifiedBy) -> None:
        """Note that the claim is proved; saving it may find that it conflicts with others."""
        self.verified_by, self.verified_at, self.problem = by.value, timezone.now(), ""
        self.missing_since = None

    def lapse(self, problem: str) -> None:
        """Note that the claim is not proved any more, and why."""
        self.verified_by, self.verified_at, self.problem = "", None, problem
        self.missing_since = None
