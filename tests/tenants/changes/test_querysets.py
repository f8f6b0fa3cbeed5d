from types import SimpleNamespace
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.test import TestCase

from tenants.changes.base import RegistryModel
from tenants.models import (
    Backend,
    BackendHostname,
    BackendNode,
    Credential,
    Domain,
    Hostname,
    HostnameGrant,
    HostRoute,
    Invitation,
    Membership,
    NexusNode,
    PortClaim,
    PortMapping,
    Revocation,
    Role,
    Site,
    SiteRole,
    Tenant,
    TenantKey,
)
from tests.support.registry import make_domain, make_served_backend, make_tenant

User = get_user_model()
SHARED = {NexusNode}
OPERATORS = {Site, SiteRole}
OWNERS = {HostnameGrant, Invitation, Membership, Revocation, TenantKey}


def is_of(row: Any, tenant: Tenant) -> bool:
    """Tell whose a row is without the code under test."""
    if isinstance(row, Tenant):
        return row == tenant
    if isinstance(row, HostRoute):
        row = row.port_mapping
    return (row.tenant if hasattr(row, "tenant") else row.backend.tenant) == tenant


class ForUserTests(TestCase):
    @classmethod
    def setUpTestData(cls) -> None:
        cls.mine, cls.theirs = make_tenant(), make_tenant(enabled=False)
        for tenant in (cls.mine, cls.theirs):
            backend = make_served_backend(tenant)
            PortClaim.objects.create(backend=backend, public_port=53)
            make_domain(tenant, "example.net", None)
            HostnameGrant.objects.create(tenant=tenant, name="example.net", grantee_slug="somebody")
            Invitation.objects.create(tenant=tenant, email="somebody@example.net")
            TenantKey.objects.create(tenant=tenant)
            Revocation.objects.create(tenant=tenant, token_id="one")
            SiteRole.objects.create(user=User.objects.create_user(f"auditor-{tenant.slug}"), role="auditor")
            Membership.objects.create(
                user=User.objects.create_user(f"owner-{tenant.slug}"), tenant=tenant, role="owner"
            )
        Site.objects.create(slug="east")
        Site.objects.create(slug="west")
        cls.users = {}
        for role in Role:
            cls.users[role] = User.objects.create_user(role.value)
            Membership.objects.create(user=cls.users[role], tenant=cls.mine, role=role)
        cls.operator = User.objects.create_superuser("operator")
        cls.stranger = User.objects.create_user("stranger", is_staff=True)

    def test_every_model_of_the_registry_has_the_gate(self) -> None:
        models = set(RegistryModel.__subclasses__())
        expected = {
            Backend, BackendHostname, BackendNode, Credential, Domain, Hostname, HostnameGrant, HostRoute, Invitation,
            Membership, NexusNode, PortClaim, PortMapping, Revocation, Site, SiteRole, Tenant, TenantKey,
        }  # fmt: skip
        self.assertEqual(models, expected)
        for model in models:
            self.assertGreater(model.objects.count(), 1, model)

    def test_a_member_of_any_role_sees_the_rows_of_the_tenant_and_no_others(self) -> None:
        for role, user in self.users.items():
            for model in RegistryModel.__subclasses__():
                with self.subTest(role=role, model=model.__name__):
                    seen = list(model.objects.for_user(user))
                    if model in OPERATORS:
                        self.assertEqual(seen, [])
                        continue
                    if model in SHARED:
                        self.assertEqual(len(seen), model.objects.count())
                        continue
                    expected = [row for row in model.objects.all() if is_of(row, self.mine)]
                    self.assertTrue(expected)
                    self.assertCountEqual(seen, expected)

    def test_who_may_change_what(self) -> None:
        for role, user in self.users.items():
            for model in RegistryModel.__subclasses__():
                with self.subTest(role=role, model=model.__name__):
                    rows = list(model.objects.editable_by(user))
                    allowed = role == Role.OWNER or (role == Role.EDITOR and model not in OWNERS)
                    if model in {NexusNode, Tenant, *OPERATORS} or not allowed:
                        self.assertEqual(rows, [])
                        continue
                    mine = [row for row in model.objects.all() if is_of(row, self.mine)]
                    if model is Membership:
                        mine = [row for row in mine if row.user != user]  # nobody changes the own role
                    self.assertCountEqual(rows, mine)

    def test_an_operator_sees_and_changes_everything(self) -> None:
        for model in RegistryModel.__subclasses__():
            self.assertEqual(model.objects.for_user(self.operator).count(), model.objects.count())
            self.assertEqual(model.objects.editable_by(self.operator).count(), model.objects.count())

    def test_nobody_else_sees_anything(self) -> None:
        switched_off = User.objects.create_superuser("off", is_active=False)
        former = User.objects.create_user("former", is_active=False)
        Membership.objects.create(user=former, tenant=self.mine, role=Role.OWNER)
        for user in (None, AnonymousUser(), self.stranger, switched_off, former):
            for model in RegistryModel.__subclasses__():
                with self.subTest(user=str(user), model=model.__name__):
                    self.assertFalse(model.objects.for_user(user).exists())
                    self.assertFalse(model.objects.editable_by(user).exists())

    def test_it_narrows_what_was_selected_before_and_costs_one_query(self) -> None:
        rows = Backend.objects.filter(tenant=self.theirs).for_user(self.users[Role.OWNER])
        with self.assertNumQueries(1):
            self.assertEqual(list(rows), [])
        self.assertEqual(self.mine.backends.for_user(self.users[Role.VIEWER]).count(), 1)

    def test_a_gated_queryset_deletes_and_updates_only_its_own_rows(self) -> None:
        user = self.users[Role.EDITOR]
        PortMapping.objects.editable_by(user).update(default_target="localhost:1")
        self.assertEqual(PortMapping.objects.filter(default_target="localhost:1").count(), 1)
        HostRoute.objects.editable_by(user).delete()
        self.assertEqual(HostRoute.objects.count(), 1)
        self.assertTrue(is_of(HostRoute.objects.get(), self.theirs))

    def test_leaving_a_tenant_takes_effect_at_once(self) -> None:
        user = self.users[Role.OWNER]
        Membership.objects.filter(user=user).delete()
        self.assertFalse(Backend.objects.for_user(user).exists())

    def test_a_user_object_of_another_kind_will_do(self) -> None:
        user = SimpleNamespace(pk=self.users[Role.OWNER].pk, is_authenticated=True, is_active=True, is_superuser=False)
        self.assertEqual(Tenant.objects.for_user(user).get(), self.mine)
