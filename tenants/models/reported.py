"""Rows that relays report: users do not edit them, and they change neither configuration nor generation."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import models
from django.utils import timezone

from tenants.changes.visibility import seen_by


class ReportedQuerySet(models.QuerySet[Any]):
    """Rows that a relay wrote, behind the same gate as the registry's own."""

    def for_user(self, user: Any) -> ReportedQuerySet:
        """Return the rows that the user may see: all for operators and auditors, their tenants' for members."""
        return seen_by(self, user)


class OfRelayQuerySet(ReportedQuerySet):
    """Rows of relays that are alive and of others."""

    def live(self) -> OfRelayQuerySet:
        """Return those of relays that have been heard of lately."""
        return self.filter(relay__expires_at__gt=timezone.now())


class ReportedModel(models.Model):
    """A row that a relay wrote.

    Class attributes:
        tenant_lookup: the way to the row's tenant for `ReportedQuerySet.for_user`; None where it has none.
    """

    tenant_lookup: ClassVar[str | None] = None

    objects: ClassVar[Any] = ReportedQuerySet.as_manager()

    class Meta:
        abstract = True


def with_its_owner(collector: Any, field: Any, rows: models.QuerySet[Any], using: str) -> None:
    """Delete reported rows with what they are about: in one statement, unread, and unnamed on the page that asks.

    It is CASCADE for rows that can be many and that no user made.
    """
    collector.fast_deletes.append(rows)


with_its_owner.lazy_sub_objs = True  # type: ignore[attr-defined]


def owner(to: Any, **options: Any) -> Any:
    """Return the foreign key of a reported row to what it is about.

    The database has no constraint for it: a relay that reports on a backend must neither wait for its deletion nor
    make that fail. What was written a moment too late has no tenant, so no member sees it, and is tidied away.
    """
    return models.ForeignKey(to, on_delete=with_its_owner, db_constraint=False, **options)
