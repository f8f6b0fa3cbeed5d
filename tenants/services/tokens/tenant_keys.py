"""Rotates and revokes the keys that tenants sign their tokens with."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from django.db import DEFAULT_DB_ALIAS
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables

from tenants.changes import generations
from tenants.models.tenant import Tenant
from tenants.models.tenant_key import SIGNS, TenantKey

OVERLAP: Final = timedelta(days=1)
"""How long the old keys of a rotation are accepted where nothing else is said."""


def signing_key(tenant: Tenant, using: str = DEFAULT_DB_ALIAS) -> TenantKey | None:
    """Return the key that signs the tenant's tokens now: the newest active one, if any."""
    return TenantKey.objects.using(using).filter(SIGNS, tenant=tenant).order_by("-pk").first()


@sensitive_variables("secret")
def rotate(tenant: Tenant, *, secret: str = "", overlap: timedelta = OVERLAP) -> TenantKey:
    """Give the tenant a new key, which signs from now on; those before it are accepted until the overlap is over.

    Args:
        secret: of the new key; empty for a random one.

    Raises:
        ValidationError: the secret is too short.
    """
    with generations.batch():
        key = TenantKey(tenant=tenant, secret=secret)
        key.full_clean(exclude=["tenant"])
        key.save()
        retire_older(key, overlap)
    return key


def retire_older(key: TenantKey, overlap: timedelta, now: datetime | None = None) -> int:
    """Let the tenant's older keys sign no more, and be accepted until the overlap is over; return their number."""
    until = (now or timezone.now()) + overlap
    older = TenantKey.objects.filter(SIGNS, tenant=key.tenant_id, pk__lt=key.pk)
    return older.update(accepted_until=until)


def revoke(key: TenantKey, reason: str = "") -> None:
    """Accept nothing any more that this key signs or has signed; for good.

    Raises:
        ValidationError: the reason is too long.
    """
    with generations.batch():
        if key.revoked_at is None:
            key.revoked_at = timezone.now()
        key.revoked_because = reason
        key.full_clean(exclude=["tenant", "secret"])
        key.save()
