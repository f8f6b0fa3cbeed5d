"""System checks: what must be right before the registry is used."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from tenants.fields import encryption_box


@register
def check_encryption_keys(**_: Any) -> list[CheckMessage]:
    """Report missing or broken FIELD_ENCRYPTION_KEYS."""
    try:
        encryption_box()
    except ImproperlyConfigured as error:
        return [Error(str(error), id="tenants.E001")]
    return []


@register
def check_sqlite_transactions(**_: Any) -> list[CheckMessage]:
    """Report SQLite databases whose transactions may fail half way."""
    return [
        Warning(
            f"Database {connection.alias!r} is SQLite and begins its transactions without the write lock, so that an "
            'edit can fail with "database is locked".',
            hint='Set OPTIONS["transaction_mode"] to "IMMEDIATE".',
            id="tenants.W001",
        )
        for connection in connections.all(initialized_only=True)
        if connection.vendor == "sqlite"
        and str(connection.settings_dict["OPTIONS"].get("transaction_mode")).upper() not in ("IMMEDIATE", "EXCLUSIVE")
    ]


@register(Tags.security, deploy=True)
def check_public_url(**_: Any) -> list[CheckMessage]:
    """Report that links in mails lead to wherever their sender reached this site."""
    if settings.PUBLIC_URL:
        return []
    return [
        Warning(
            "PUBLIC_URL is not set, so links of invitations lead to the host and port by which their sender reached "
            "this site, and tokens that it issues name no status address.",
            hint="Set PUBLIC_URL to the address that people and nodes use, as in https://admin.example.com.",
            id="tenants.W002",
        )
    ]
