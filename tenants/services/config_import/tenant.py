"""The tenant that a configuration file is imported into or exported from."""

from __future__ import annotations

from typing import Final

from tenants.models import OPEN_POLICY, Tenant

DEFAULT_TENANT: Final = "default"


class UnknownTenant(LookupError):
    """The named tenant does not exist."""


def tenant_to_import(slug: str | None) -> Tenant:
    """Return the tenant; the default one may be unsaved.

    Args:
        slug: None for `DEFAULT_TENANT`.

    Raises:
        UnknownTenant: no tenant has this slug.
    """
    found = Tenant.objects.filter(slug=slug or DEFAULT_TENANT).first()
    if found is None and slug is not None:
        raise UnknownTenant(f"There is no tenant {slug!r}: create it in the admin, or check the slug.")
    # Without a named tenant, the importing operator runs everything: existing files keep working unchanged.
    return found or Tenant(slug=DEFAULT_TENANT, **OPEN_POLICY)


def tenant_to_export(slug: str | None) -> Tenant:
    """Return the tenant.

    Args:
        slug: None for `DEFAULT_TENANT`.

    Raises:
        UnknownTenant: no tenant has this slug.
    """
    slug = slug or DEFAULT_TENANT
    found = Tenant.objects.filter(slug=slug).first()
    if found is None:
        raise UnknownTenant(f"There is no tenant {slug!r}: name one with --tenant.")
    return found
