"""Invitation: a link, sent by mail, whose reader becomes a member of a tenant."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Self

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.utils import timezone

from tenants.changes.base import RegistryModel
from tenants.changes.role import Role
from tenants.constraints import FieldCheckConstraint, FieldUniqueConstraint
from tenants.models.tenant import Tenant

MOST_OPEN = 100
"""Invitations of one tenant that wait for an answer: mail goes to addresses that are not verified."""

MOST_CHARACTERS = 150
"""Of an address: as many as a user name has."""


def normal_email(text: str) -> str:
    """Return the normal form of an address: a new account's user name is that, and log-ins look for no other.

    Raises:
        ValidationError: it becomes too long, or is written in a way of which a mail program makes another address.
    """
    found = text.strip()
    if len(found) <= MOST_CHARACTERS:
        # Twice, since some small letters are made of parts that go together.
        found = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", found).lower())
    if len(found) > MOST_CHARACTERS:
        raise ValidationError({"email": f"The address has more than {MOST_CHARACTERS} characters: use another."})
    if '"' in found or "=?" in found:
        # "a"@b is a@b, and =?utf-8?q?a?=@b too: one mailbox would have as many addresses as one likes.
        raise ValidationError({"email": "Write the address as it is, without quotation marks and encoded words."})
    return found


def expiry() -> datetime:
    """Return when an invitation that is sent now expires."""
    return timezone.now() + timedelta(days=settings.INVITATION_DAYS)


class Invitation(RegistryModel):
    """Invites an address to a tenant. Of the link's token only a hash is stored; a new link ends the one before."""

    tenant_lookup = "tenant"
    edit_roles = frozenset({Role.OWNER})
    not_on_record = RegistryModel.not_on_record | {"token_hash"}

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="invitations")
    email = models.EmailField(
        "e-mail address",
        max_length=MOST_CHARACTERS,
        help_text="Where the link goes. Its reader logs in, or makes an account, and joins.",
    )
    role = models.CharField(
        max_length=10,
        choices=Role.choices,
        default=Role.VIEWER,
        help_text="Owners and editors change the tenant's rows, viewers look at them.",
    )
    token_hash = models.CharField(max_length=64, blank=True, editable=False)
    invited_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+", editable=False
    )
    expires_at = models.DateTimeField("expires", default=expiry, editable=False)
    sent_at = models.DateTimeField("sent", null=True, blank=True, editable=False)
    accepted_at = models.DateTimeField("accepted", null=True, blank=True, editable=False)
    accepted_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+", editable=False
    )

    class Meta(RegistryModel.Meta):
        ordering = ["tenant", "email"]
        constraints = [
            FieldUniqueConstraint(
                fields=["tenant", "email"],
                condition=Q(accepted_at__isnull=True),
                name="invitation_email_unique",
                field="email",
                violation_error_message="This address is invited already: send that invitation again, or delete it.",
            ),
            FieldUniqueConstraint(
                fields=["token_hash"],
                condition=~Q(token_hash=""),
                name="invitation_token_unique",
                field="email",
                violation_error_message="Another invitation has this token: send it again.",
            ),
            FieldCheckConstraint(
                condition=Q(role__in=Role.values),
                name="invitation_role_known",
                field="role",
                violation_error_message="The role must be owner, editor or viewer.",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.email} to {self.tenant}"

    def normalise(self) -> None:
        super().normalise()
        self.email = normal_email(self.email)

    @property
    def state(self) -> str:
        """What has become of it, in a word or two."""
        if self.accepted_at is not None:
            return "accepted"
        if self.sent_at is None:
            return "not sent"
        return "open" if self.expires_at > timezone.now() else "expired"

    @classmethod
    def check_own_rows(cls, rows: Sequence[Self], using: str) -> None:
        super().check_own_rows(rows, using)
        new = [row.tenant_id for row in rows if row._state.adding]  # with a key where a deletion is taken back
        if not new:
            return
        waiting = cls._base_manager.using(using).filter(tenant_id__in=new, accepted_at__isnull=True)
        counts = dict(waiting.order_by().values_list("tenant_id").annotate(models.Count("pk")))
        for tenant_id in set(new):
            if counts.get(tenant_id, 0) + new.count(tenant_id) > MOST_OPEN:
                raise ValidationError(
                    {"email": f"{MOST_OPEN} invitations of this tenant wait for an answer already: delete some first."}
                )
