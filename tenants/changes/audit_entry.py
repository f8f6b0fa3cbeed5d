"""AuditEntry: one action, as the audit trail keeps it."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any, ClassVar, Final, NoReturn

from django.conf import settings
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.db.models import Q
from django.utils import timezone

from tenants.changes.role import OWNERS
from tenants.changes.row_names import tenant_of
from tenants.changes.visibility import seen_by

CREATED: Final = "created"
UPDATED: Final = "updated"
DELETED: Final = "deleted"

_REFUSED: Final = "The audit trail is only ever added to: its entries cannot be changed or deleted."


def root_name(label: str, key: Any) -> str:
    """Return what `AuditEntry.root` holds for a row."""
    return f"{label} {key}"


class AuditTrailIsFinal(TypeError):
    """Something tried to change or delete an entry."""

    def __init__(self) -> None:
        super().__init__(_REFUSED)


class AuditQuerySet(models.QuerySet["AuditEntry"]):
    """Reads, and adds; what is there stays until `prune`."""

    def for_user(self, user: Any) -> AuditQuerySet:
        """Return the entries that the user may see: all for operators and auditors, their tenants' for owners."""
        return seen_by(self, user, OWNERS)

    def of_row(self, row: models.Model) -> AuditQuerySet:
        """Return the history of a row and of the rows below it, for as long as it has been its present tenant's."""
        label, key = row._meta.label_lower, str(row.pk)
        found = self.filter(Q(model=label, object_id=key) | Q(root=root_name(label, key)))
        owner = tenant_of(row)
        return found if owner is None else found.filter(tenant_key=owner[0])

    def prune(self, before: datetime, most: int) -> int:
        """Delete at most so many of the oldest entries from before an instant; return how many went."""
        keys = list(self.filter(instant__lt=before).order_by("instant").values_list("pk", flat=True)[:most])
        return self.filter(pk__in=keys)._raw_delete(self.db) if keys else 0

    def update(self, **kwargs: Any) -> NoReturn:
        """Refuse it."""
        raise AuditTrailIsFinal

    def delete(self) -> NoReturn:
        """Refuse it."""
        raise AuditTrailIsFinal


class AuditEntry(models.Model):
    """One changed row, or one other action. Nothing changes an entry; the database's triggers refuse to.

    It names what it is about by value, so that it outlives all of it: the tenant, the row, the user.

    ``changes`` gives for each field what it was and what it is. There, ``{"id": …, "text": …}`` means another row,
    ``{"secret": …}`` for the fingerprint of a secret ("sealed" where no key opens it), and ``{"base64": …}`` for bytes.

    A migration that alters this table copies it on SQLite, without its triggers: put them back in that migration.
    """

    instant = models.DateTimeField(default=timezone.now)
    batch = models.UUIDField(default=uuid.uuid4, help_text="The same for all that one transaction changed.")
    # The user may be gone: no constraint, and nothing to update when one goes. Keys are not used twice.
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        null=True,
        related_name="+",
        db_index=False,
    )
    actor_name = models.CharField("who", max_length=200)
    origin = models.CharField(max_length=20)
    address = models.CharField(max_length=45, blank=True, help_text="The client's.")
    tenant_key = models.BigIntegerField(null=True)
    tenant_slug = models.CharField("tenant", max_length=50, blank=True)
    model = models.CharField("kind", max_length=100, blank=True, help_text="As in tenants.backend.")
    object_id = models.CharField(max_length=64, blank=True)
    object_text = models.CharField("what", max_length=300, blank=True)
    root = models.CharField(
        max_length=170, blank=True, help_text="Model and key of the row above it, below the tenant."
    )
    action = models.CharField(max_length=40)
    changes = models.JSONField(default=dict, encoder=DjangoJSONEncoder)

    objects = AuditQuerySet.as_manager()

    tenant_lookup: ClassVar[str] = "tenant_key"

    class Meta:
        verbose_name = "audit entry"
        verbose_name_plural = "audit trail"
        ordering = ["-pk"]
        indexes = [
            models.Index(fields=["tenant_key", "-id"], name="auditentry_tenant"),
            models.Index(fields=["model", "object_id", "-id"], name="auditentry_object"),
            models.Index(fields=["actor", "-id"], name="auditentry_actor"),
            models.Index(fields=["instant"], name="auditentry_instant"),
            models.Index(fields=["batch"], name="auditentry_batch"),
            models.Index(fields=["root", "-id"], name="auditentry_root", condition=~models.Q(root="")),
        ]

    def __str__(self) -> str:
        return f"{self.actor_name} {self.action} {self.object_text}".strip()

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Add the entry.

        Raises:
            AuditTrailIsFinal: it is stored already.
        """
        if not self._state.adding:
            raise AuditTrailIsFinal
        super().save(*args, **kwargs)

    save.alters_data = True  # type: ignore[attr-defined]

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse it."""
        raise AuditTrailIsFinal
