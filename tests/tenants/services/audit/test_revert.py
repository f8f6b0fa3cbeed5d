"""Tests of taking changes back: with all checks, as the user who asks for it, or not at all."""

from __future__ import annotations

from typing import Any
from unittest import mock

from django.db import connection
from django.test import TestCase
from django.utils import timezone

from tenants.models import (
    AuditEntry,
    Backend,
    BackendHostname,
    BackendNode,
    Credential,
    CredentialKind,
    Domain,
    Hostname,
    HostRoute,
    Invitation,
    Membership,
    PortClaim,
    PortMapping,
    Revocation,
    Role,
    Tenant,
    TenantKey,
    VerifiedBy,
)
from tenants.services.audit import revert as service
from tenants.services.audit.revert import CanNotRevert, revert
from tests.support.registry import make_backend, make_served_backend, make_tenant
from tests.tenants.admin.pages import make_operator, make_user


class RevertTest(TestCase):
    def setUp(self) -> None:
        self.tenant = make_tenant(slug="acme")
        self.backend = make_served_backend(self.tenant, "app.example.com", name="web")
        self.owner = make_user("owner", acme=Role.OWNER)
        self.editor = make_user("editor", acme=Role.EDITOR)
        self.viewer = make_user("viewer", acme=Role.VIEWER)
        self.operator = make_operator()

    def last(self, model: str, **filters: Any) -> AuditEntry:
        return AuditEntry.objects.filter(model=f"tenants.{model}", **filters).latest("pk")

    def refused(self, entry: AuditEntry, user: Any, *words: str) -> None:
        count = AuditEntry.objects.count()
        with self.assertRaises(CanNotRevert) as caught:
            revert(entry, user)
        for word in words:
            self.assertIn(word, str(caught.exception))
        self.assertEqual(AuditEntry.objects.count(), count)

    def change(self, **fields: Any) -> AuditEntry:
        for name, value in fields.items():
            setattr(self.backend, name, value)
        self.backend.save()
        return self.last("backend")

    # -- updates

    def test_an_update(self) -> None:
        entry = self.change(weight=5, site="berlin", allowed_outbound_ports=[25], outbound_allowed=True)
        result = revert(entry, self.owner)
        self.backend.refresh_from_db()
        self.assertEqual((self.backend.weight, self.backend.site, self.backend.allowed_outbound_ports), (1, "", []))
        self.assertEqual(result.left, ())
        recorded, reverted = AuditEntry.objects.order_by("-pk")[:2][::-1]
        self.assertEqual({recorded.action, reverted.action}, {"updated", "reverted"})
        self.assertEqual(len({recorded.batch, reverted.batch}), 1)
        self.refused(self.last("backend"), self.owner, "Only operators may let a backend connect out")
        revert(self.last("backend"), self.operator)  # and back again
        self.backend.refresh_from_db()
        self.assertEqual((self.backend.weight, self.backend.site), (5, "berlin"))

    def test_an_update_of_a_reference(self) -> None:
        other = make_backend(self.tenant, name="other")
        mapping = self.backend.port_mappings.get()
        mapping.backend = other
        mapping.save()
        revert(self.last("portmapping"), self.editor)
        mapping.refresh_from_db()
        self.assertEqual(mapping.backend, self.backend)

    def test_what_has_changed_since_is_named(self) -> None:
        entry = self.change(weight=5, site="berlin")
        self.change(weight=6)
        self.refused(entry, self.owner, "weight is 6, not 5", "changed since")
        self.backend.refresh_from_db()
        self.assertEqual((self.backend.weight, self.backend.site), (6, "berlin"))

    def test_rules_hold(self) -> None:
        entry = self.change(name="new")
        make_backend(self.tenant, name="web")
        self.refused(entry, self.owner, "has a backend of this name already")

    def test_only_who_may_change_the_row(self) -> None:
        entry = self.change(weight=5)
        self.refused(entry, self.viewer, "not change it")
        self.refused(entry, make_user("stranger"), "no longer exists")
        self.tenant.name = "Acme"
        self.tenant.save()
        self.refused(self.last("tenant"), self.owner, "not change it")
        revert(self.last("tenant"), self.operator)

    def test_a_row_that_went_to_another_tenant_is_not_there_for_the_old_one(self) -> None:
        name = Hostname.objects.create(tenant=self.tenant, name="free.example.com")
        name.name = "other.example.com"
        name.save()
        entry = self.last("hostname")
        name.tenant = make_tenant(slug="rival")
        name.save()
        self.refused(entry, self.owner, "no longer exists")
        moved = self.last("hostname", tenant_key=self.tenant.pk)
        self.refused(moved, self.owner, "no longer exists")
        revert(moved, self.operator)
        name.refresh_from_db()
        self.assertEqual(name.tenant, self.tenant)

    def test_secrets_are_left_and_said_to_be(self) -> None:
        credential = self.backend.credential
        credential.secret, credential.token_ttl = "another", 99
        credential.save()
        result = revert(self.last("credential"), self.owner)
        credential.refresh_from_db()
        self.assertEqual((credential.token_ttl, credential.secret), (30, "another"))
        self.assertIn("secret", result.left[0])
        credential.secret = "a third"
        credential.save()
        self.refused(self.last("credential"), self.owner, "no secrets")

    def test_what_only_operators_may_set(self) -> None:
        credential = self.backend.credential
        credential.kind, credential.command = CredentialKind.COMMAND, "/bin/attest"
        credential.save()
        credential.command = "/bin/other"
        credential.save()
        self.refused(self.last("credential"), self.owner, "only operators")
        revert(self.last("credential"), self.operator)
        credential.refresh_from_db()
        self.assertEqual(credential.command, "/bin/attest")

    # -- creations

    def test_a_creation(self) -> None:
        claim = PortClaim.objects.create(backend=self.backend, public_port=2222)
        revert(self.last("portclaim"), self.editor)
        self.assertFalse(PortClaim.objects.filter(pk=claim.pk).exists())
        self.refused(self.last("portclaim", action="created"), self.editor, "no longer exists")

    def test_a_port_that_the_tenant_has_no_longer(self) -> None:
        claim = PortClaim.objects.create(backend=self.backend, public_port=2222)
        claim.delete()
        entry = self.last("portclaim", action="deleted")
        self.refused(entry, self.editor, "not one of the public ports that the tenant has been given (none)")
        Tenant.objects.filter(pk=self.backend.tenant_id).update(public_ports="2222")
        revert(entry, self.editor)
        self.assertTrue(PortClaim.objects.filter(backend=self.backend, public_port=2222).exists())

    def test_a_creation_that_was_changed_or_added_to_since(self) -> None:
        other = make_backend(self.tenant, name="other")
        entry = self.last("backend")
        connection.run_on_commit.clear()  # another transaction
        other.weight = 9
        other.save()
        self.refused(entry, self.owner, "changed since", "weight")
        third = make_backend(self.tenant, name="third")
        entry = self.last("backend")
        connection.run_on_commit.clear()
        PortClaim.objects.create(backend=third, public_port=1)
        self.refused(entry, self.owner, "port claim", "created")

    # -- deletions

    def test_a_deletion_with_all_that_hung_on_it(self) -> None:
        PortClaim.objects.create(backend=self.backend, public_port=53, transport="udp", flow_idle_timeout=60)
        Tenant.objects.filter(pk=self.tenant.pk).update(public_ports="53")
        self.change(enabled=False, weight=8)
        models = (Backend, BackendNode, BackendHostname, PortMapping, HostRoute, PortClaim)
        before = {model: list(model.objects.order_by("pk").values()) for model in models}
        self.backend.delete()
        result = revert(self.last("backend"), self.editor)
        for model in models:
            with self.subTest(model=model.__name__):
                now = list(model.objects.order_by("pk").values())
                for row in (*now, *before[model]):
                    row.pop("created_at"), row.pop("updated_at")
                self.assertEqual(now, before[model])
        self.assertIn("5 rows", result.done)
        self.assertEqual(len(result.left), 1)
        self.assertIn("HMAC secret of acme/web", result.left[0])
        self.assertIn("no secrets", result.left[0])
        self.assertFalse(Credential.objects.exists())
        self.refused(self.last("backend", action="deleted"), self.editor, "there again already")

    def test_the_deletion_of_a_credential(self) -> None:
        self.backend.credential.delete()
        self.refused(self.last("credential"), self.owner, "secret")

    def test_the_deletion_of_a_tenant(self) -> None:
        self.tenant.delete()
        entry = self.last("tenant")
        self.refused(entry, self.owner, "may not")
        revert(entry, self.operator)
        self.assertEqual(Tenant.objects.get(slug="acme").pk, int(entry.object_id))
        self.assertEqual(Membership.objects.count(), 3)
        self.assertEqual(HostRoute.objects.get().port_mapping.backend.tenant.slug, "acme")

    def test_a_deletion_whose_name_is_taken_since(self) -> None:
        self.backend.delete()
        entry = self.last("backend")
        make_backend(self.tenant, name="web")
        self.refused(entry, self.owner, "has a backend of this name already")

    def test_a_deletion_whose_parent_is_gone(self) -> None:
        mapping = self.backend.port_mappings.get()
        mapping.delete()
        entry = self.last("portmapping")
        self.backend.delete()
        self.refused(entry, self.owner, "backend")

    def test_too_many_rows(self) -> None:
        self.backend.delete()
        with mock.patch.object(service, "MOST_ROWS", 3):
            self.refused(self.last("backend"), self.owner, "3 at most", "backup")

    def test_what_the_registry_found_out_is_not_given_back(self) -> None:
        domain = Domain.objects.create(tenant=self.tenant, name="example.com")
        domain.prove(VerifiedBy.DNS)
        domain.save()
        domain.delete()
        result = revert(self.last("domain"), self.owner)
        self.assertFalse(Domain.objects.get().is_verified)
        self.assertIn("proved", " ".join(result.left))

    def test_a_key_is_not_made_again_without_its_secret(self) -> None:
        key = TenantKey.objects.create(tenant=self.tenant, secret="s" * 40)
        key.delete()
        self.refused(self.last("tenantkey"), self.owner, "secret")
        self.assertFalse(TenantKey.objects.exists())

    # -- what can not be

    def test_what_is_for_good_stays_for_whoever_is_no_operator(self) -> None:
        revocation = Revocation.objects.create(tenant=self.tenant, token_id="leaked")
        entry = self.last("revocation")
        self.refused(entry, self.owner, "stays so")
        self.assertTrue(Revocation.objects.filter(pk=revocation.pk).exists())
        key = TenantKey.objects.create(tenant=self.tenant, secret="s" * 40)
        made = self.last("tenantkey")
        self.refused(made, self.owner, "revoke it")
        key.revoked_at, key.revoked_because = timezone.now(), "leaked"
        key.save()
        self.refused(self.last("tenantkey", action="updated"), self.owner, "stays as it is")
        invitation = Invitation.objects.create(tenant=self.tenant, email="new@example.com", invited_by=self.owner)
        invitation.role = Role.OWNER
        invitation.save()
        changed = self.last("invitation", action="updated")
        invitation.accepted_at = timezone.now()
        invitation.save()
        self.refused(changed, self.owner, "accepted")
        revert(entry, self.operator)
        self.assertFalse(Revocation.objects.exists())

    def test_deleted_invitations_come_back_up_to_the_limit(self) -> None:
        make = Invitation.objects.create
        make(tenant=self.tenant, email="one@example.com", invited_by=self.owner).delete()
        entry = self.last("invitation")
        with mock.patch("tenants.models.invitation.MOST_OPEN", 1):
            make(tenant=self.tenant, email="two@example.com", invited_by=self.owner)
            self.refused(entry, self.owner, "wait for an answer")

    def test_other_entries(self) -> None:
        self.refused(AuditEntry.objects.filter(model="auth.user").latest("pk"), self.operator, "registry's own")

    def test_own_membership(self) -> None:
        other = make_user("second", acme=Role.OWNER)
        membership = Membership.objects.get(user=self.owner)
        membership.role = Role.EDITOR
        membership.save()
        entry = self.last("membership")
        self.refused(entry, self.owner, "not change it")  # an editor now
        revert(entry, other)
        membership.refresh_from_db()
        self.assertEqual(membership.role, Role.OWNER)
        created = self.last("membership", action="created", object_id=str(Membership.objects.get(user=other).pk))
        self.refused(created, other)
