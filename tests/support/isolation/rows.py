"""A tenant with a row of everything, under one key and with one mark in every text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.apps import apps
from django.contrib import admin
from django.db import connection, models
from django.utils import timezone

from tenants.fields import NormalisedCharField
from tenants.models import Role

OPERATORS_OWN = {"tenants.NexusNode", "tenants.GenerationCounter", "tenants.Change"}
"""What is no tenant's."""

LABELS = (
    "auth.User",
    "auth.Group",
    "tenants.Tenant",
    "tenants.Backend",
    "tenants.BackendNode",
    "tenants.Hostname",
    "tenants.BackendHostname",
    "tenants.PortMapping",
    "tenants.HostRoute",
    "tenants.PortClaim",
    "tenants.Credential",
    "tenants.Membership",
    "tenants.Invitation",
    "tenants.Domain",
    "tenants.HostnameGrant",
    "tenants.TenantKey",
    "tenants.Revocation",
    "tenants.Site",
    "accounts.LoginSession",
    "accounts.TotpDevice",
    "accounts.RecoveryCodes",
    "tenants.SiteRole",
    "tenants.AuditEntry",
    "tenants.ExpiryNotice",
    "tenants.RelayProcess",
    "tenants.RelaySession",
    "tenants.RelayUplink",
    "tenants.RelayTarget",
    "tenants.BackendUsage",
    "tenants.CredentialUse",
)
"""Every model that can be a tenant's, in the order in which their rows can be saved."""


@dataclass(frozen=True)
class TenantRows:
    """The rows of one tenant.

    Attributes:
        key: primary key of every row.
        mark: stands in every text.
        port: public port that it claims.
    """

    key: int
    mark: str
    port: int

    def build(self, model: type[models.Model], /, **given: Any) -> Any:
        """Return an unsaved row of the model; fields that are not given hold the mark, or a default."""
        values: dict[str, Any] = {"pk": self.key} | given
        for each in model._meta.concrete_fields:
            if each.primary_key or each.name in values or each.attname in values:
                continue
            if isinstance(each, models.ForeignKey):
                if each.null and each.related_model._meta.label not in LABELS:
                    continue
                values[each.attname] = self.key
            elif each.null or (isinstance(each, NormalisedCharField) and each.blank):
                continue  # it takes some texts only
            elif each.choices:
                values[each.name] = each.default if each.has_default() else each.choices[0][0]
            elif isinstance(each, models.CharField | models.TextField) and not each.has_default():
                values[each.name] = f"{self.mark}-{each.name}"[: each.max_length]
            elif isinstance(each, models.DateTimeField):
                values[each.name] = timezone.now()
            elif isinstance(each, models.DateField):
                values[each.name] = timezone.now().date()
            elif isinstance(each, models.IntegerField) and not each.has_default():
                values[each.name] = 1
        return model(**values)

    def save(self, node: int) -> None:
        """Save a row of everything that has none with this key yet; the node is the one of its backend."""
        for label in LABELS:
            model = apps.get_model(label)
            given = self._given().get(label, {}) | ({"node_id": node} if label == "tenants.BackendNode" else {})
            if not model._base_manager.filter(pk=given.get("pk", self.key)).exists():
                self.build(model, **given).save(force_insert=True)

    def stored(self) -> dict[str, list[Any]]:
        """Return all stored values of the rows, by model."""
        return {model._meta.label: list(model._base_manager.filter(pk=self.key).values()) for model in tenants_models()}

    def _given(self) -> dict[str, dict[str, Any]]:
        mark, hostname = self.mark, f"{self.mark}.example.net"
        return {
            "auth.User": {"username": f"{mark}-user", "email": f"{mark}@example.net", "is_staff": True},
            "tenants.Tenant": {"slug": f"{mark}-tenant", "name": f"{mark} Company"},
            "tenants.Hostname": {"name": hostname},
            "tenants.PortMapping": {"public_port": 443, "default_target": f"{mark}.internal:7443"},
            "tenants.HostRoute": {"pattern": hostname, "target": f"{mark}.internal:9443"},
            "tenants.PortClaim": {"public_port": self.port},
            "tenants.Credential": {"kind": "hmac_secret", "secret": f"{mark}-secret-that-is-long-enough"},
            "tenants.Membership": {"role": Role.OWNER},
            "tenants.Invitation": {"email": f"{mark}@example.net", "role": Role.OWNER, "accepted_by_id": None},
            "tenants.Domain": {"name": hostname},
            "tenants.HostnameGrant": {"name": hostname},
            "tenants.TenantKey": {
                "kid": f"{mark}-kid",
                "secret": f"{mark}-secret-that-is-long-enough-for-hs256",
                "revoked_because": "",
            },
            "tenants.Revocation": {"token_hash": ""},
            "tenants.Site": {"slug": f"{mark}-site"},
            "accounts.LoginSession": {
                "pk": str(self.key),
                "browser": f"{mark}-browser",
                "address": "198.51.100.77",
            },
            "accounts.TotpDevice": {"name": f"{mark}-app"},
            "accounts.RecoveryCodes": {"name": f"{mark}-codes"},
            "tenants.SiteRole": {"role": "auditor"},
            "tenants.AuditEntry": {
                "tenant_key": self.key,
                "model": "tenants.backend",
                "object_id": str(self.key),
                "changes": {"name": [f"{mark}-before", f"{mark}-after"]},
            },
            "tenants.ExpiryNotice": {"days": 7},
            "tenants.RelayProcess": {"expires_at": datetime(2100, 1, 1, tzinfo=UTC)},
            "tenants.RelaySession": {"claims": {"hostnames": [hostname]}},
            "tenants.BackendUsage": {"bytes_sent": 123_456_789},
        }


OTHERS = TenantRows(700_001, "zq7canary", 5353)
"""The tenant of the one world only; no request of the walk holds its mark."""

OURS = TenantRows(600_001, "zq6ours", 5454)
"""The walk's users' own."""


def tenants_models() -> list[type[models.Model]]:
    """Return the models that the walk needs a row of: all that the admin shows and all that is a tenant's."""
    own = (model for app in ("tenants", "accounts") for model in apps.get_app_config(app).get_models())
    found = {model for model in own if not model._meta.auto_created}
    found |= set(admin.site._registry)
    return sorted(
        (model for model in found if model._meta.label not in OPERATORS_OWN), key=lambda model: model._meta.label
    )


def shown_models() -> Iterator[type[models.Model]]:
    """Yield the models that have a list in the admin."""
    yield from admin.site._registry


def count_from(key: int) -> None:
    """Let the next row of every table have this key. SQLite only."""
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute("DELETE FROM sqlite_sequence WHERE name = %s", [table])
            cursor.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (%s, %s)", [table, key - 1])
