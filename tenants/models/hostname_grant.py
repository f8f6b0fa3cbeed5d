"""HostnameGrant: a tenant lets another one have a name that is its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Self

from django.core.exceptions import ValidationError
from django.core.validators import validate_slug
from django.db import models

from tenants.changes.base import RegistryModel
from tenants.changes.querysets import chunks
from tenants.changes.role import Role
from tenants.constraints import FieldCheckConstraint, FieldUniqueConstraint
from tenants.fields import NormalisedCharField
from tenants.models.tenant import Tenant
from tenants.validators import DOMAIN_LENGTH, normal_domain

MOST_GRANTS: Final = 1_000  # of one tenant, since those whom it names are shown them


class HostnameGrant(RegistryModel):
    """Lets a tenant have a name, and all names under it, as far as they are the granting tenant's to give.

    The other tenant is written, not chosen, and nothing tells whether there is one of this slug, so that
    members learn no slugs. It is for the tenant that has the slug when it is written. Where no tenant has it, the grant
    has no effect, also when a tenant takes the slug later.
    """

    tenant_lookup = "tenant"
    edit_roles = frozenset({Role.OWNER.value})
    not_in_bulk_update = frozenset({"tenant", "name", "grantee_slug"})
    not_on_record = RegistryModel.not_on_record | {"grantee"}

    tenant = models.ForeignKey(
        Tenant,
        verbose_name="from",
        on_delete=models.CASCADE,
        related_name="given_grants",
        help_text="Whose name it is.",
    )
    name = NormalisedCharField(
        "name",
        max_length=DOMAIN_LENGTH,
        check=normal_domain,
        help_text="shop.example.com covers itself, *.shop.example.com and every name under it.",
    )
    grantee_slug = models.CharField(
        "to the tenant",
        max_length=50,
        validators=[validate_slug],
        help_text="Its slug, in full. Whether there is such a tenant is not told.",
    )
    # Never shown: it would tell whether the slug exists. Not CASCADE, since a row that goes would tell as well.
    grantee = models.ForeignKey(
        Tenant, null=True, blank=True, editable=False, on_delete=models.SET_NULL, related_name="received_grants"
    )

    class Meta(RegistryModel.Meta):
        ordering = ["name", "pk"]
        constraints = [
            FieldUniqueConstraint(
                fields=["tenant", "name", "grantee_slug"],
                name="hostnamegrant_unique",
                field="name",
                violation_error_message="The tenant has granted this name to this tenant already.",
            ),
            FieldCheckConstraint(
                condition=~models.Q(name="") & ~models.Q(grantee_slug=""),
                name="hostnamegrant_name_grantee_not_empty",
                field="name",
                violation_error_message="A grant needs a name and the slug of a tenant.",
            ),
        ]
        indexes = [models.Index(fields=["grantee", "name"], name="hostnamegrant_grantee_name")]

    def __str__(self) -> str:
        return f"{self.name} to {self.grantee_slug}"

    @classmethod
    def check_own_rows(cls, rows: Sequence[Self], using: str) -> None:
        keys = [row.pk for row in rows if row.pk is not None]
        if keys and cls._base_manager.using(using).filter(pk__in=keys).exists():
            raise ValidationError("A grant is not changed: delete it, and write another.")
        for tenant_id in {row.tenant_id for row in rows}:
            given = cls._base_manager.using(using).filter(tenant_id=tenant_id).count()
            if given + sum(row.tenant_id == tenant_id for row in rows) > MOST_GRANTS:
                raise ValidationError(f"The tenant has {given} grants, and {MOST_GRANTS} may be: delete some.")
        tenants: dict[str, Any] = {}
        for part in chunks({row.grantee_slug for row in rows}):
            found = Tenant._base_manager.using(using).filter(slug__in=part)
            tenants |= dict(found.values_list("slug", "pk"))
        for row in rows:
            row.grantee_id = tenants.get(row.grantee_slug)
            if row.grantee_id is not None and row.grantee_id == row.tenant_id:
                raise ValidationError({"grantee_slug": "This tenant needs no grant of its own: name another."})
