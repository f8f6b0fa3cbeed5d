from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import ValidationError
from django.test import TestCase

from tenants.models import Credential, CredentialKind, Hostname, Membership, PortClaim, Role, VerifiedBy
from tenants.services.access import permissions
from tenants.services.tokens.tenant_keys import rotate
from tests.support.registry import make_backend, make_domain, make_tenant

User = get_user_model()


class RoleTests(TestCase):
    def setUp(self) -> None:
        self.tenant, self.other = make_tenant(), make_tenant()
        self.users = {role: User.objects.create_user(role.value) for role in Role}
        for role, user in self.users.items():
            Membership.objects.create(user=user, tenant=self.tenant, role=role)
        self.operator = User.objects.create_superuser("operator")

    def test_what_each_role_may(self) -> None:
        expected = {Role.OWNER: (True, True, True), Role.EDITOR: (True, True, False), Role.VIEWER: (True, False, False)}
        for role, user in self.users.items():
            with self.subTest(role):
                self.assertEqual(permissions.role_in(user, self.tenant), role)
                self.assertEqual(self.may(user, self.tenant), expected[role])
                self.assertEqual(self.may(user, self.other), (False, False, False))
                self.assertEqual(self.may(user, None), (False, False, False))

    def may(self, user: object, tenant: object) -> tuple[bool, bool, bool]:
        checks = (permissions.may_view, permissions.may_edit, permissions.may_manage_members)
        return tuple(check(user, tenant) for check in checks)  # type: ignore[return-value]

    def test_operators_may_everything_and_others_nothing(self) -> None:
        self.assertEqual(self.may(self.operator, self.tenant), (True, True, True))
        self.operator.is_active = False
        for user in (None, AnonymousUser(), self.operator, User.objects.create_user("nobody", is_staff=True)):
            self.assertEqual(self.may(user, self.tenant), (False, False, False))
            self.assertFalse(permissions.is_operator(user))

    def test_credentials_that_reach_into_the_machine_are_for_operators(self) -> None:
        owner = self.users[Role.OWNER]
        self.assertEqual(
            permissions.credential_kinds(owner),
            [CredentialKind.PRESIGNED_TOKEN, CredentialKind.HMAC_SECRET, CredentialKind.TENANT_KEY],
        )
        self.assertEqual(permissions.credential_kinds(self.operator), list(CredentialKind))
        for kind, fields in (
            (CredentialKind.COMMAND, {"command": "/bin/true"}),
            ("hmac_secret_file", {"secret_file": "/k"}),
        ):
            credential = Credential(backend=make_backend(), kind=kind, **fields)
            with self.assertRaises(ValidationError):
                permissions.check_credential(owner, credential)
            permissions.check_credential(self.operator, credential)
        permissions.check_credential(owner, Credential(backend=make_backend(), kind="hmac_secret", secret="x"))

    def test_what_an_operator_has_set_up_may_stay_but_not_change(self) -> None:
        stored = Credential.objects.create(backend=make_backend(), kind="command", command="/bin/true", env={"A": "1"})
        edited = Credential.objects.get(pk=stored.pk)
        edited.token_ttl = 60
        permissions.check_credential(self.users[Role.EDITOR], edited, stored)
        for name, value in (("command", "/bin/sh"), ("args", ["-c", "id"]), ("env", {"LD_PRELOAD": "/tmp/x.so"})):
            edited = Credential.objects.get(pk=stored.pk)
            setattr(edited, name, value)
            with self.subTest(name), self.assertRaises(ValidationError):
                permissions.check_credential(self.users[Role.EDITOR], edited, stored)

    def test_a_file_that_an_operator_has_chosen_is_not_pointed_elsewhere(self) -> None:
        stored = Credential.objects.create(backend=make_backend(), kind="hmac_secret_file", secret_file="/run/secret")
        for user, refused in ((self.users[Role.OWNER], True), (self.users[Role.EDITOR], True), (self.operator, False)):
            edited = Credential.objects.get(pk=stored.pk)
            edited.policy_version = "2"
            permissions.check_credential(user, edited, stored)
            for name, value in (("secret_file", "/etc/shadow"), ("timeout", 99)):
                edited = Credential.objects.get(pk=stored.pk)
                setattr(edited, name, value)
                with self.subTest(user=user, name=name):
                    self.assertEqual(self.refused(permissions.check_credential, user, edited, stored), refused)

    def refused(self, check: Any, *args: Any) -> bool:
        try:
            check(*args)
        except ValidationError:
            return True
        return False

    def test_a_hostname_stays_where_it_is_or_goes_where_it_may_be_added(self) -> None:
        owner, theirs = self.users[Role.OWNER], make_domain(self.other, "example.net").tenant
        Membership.objects.create(user=owner, tenant=theirs, role=Role.OWNER)
        for name, tenant, refused in (
            ("app.example.com", self.tenant, False),  # as it is stored
            ("app.example.com", theirs, True),
            ("other.example.com", self.tenant, True),
            ("app.example.net", theirs, False),
        ):
            stored = Hostname(pk=1, name="app.example.com", tenant=self.tenant)
            moved = Hostname(pk=1, name=name, tenant=tenant)
            with self.subTest(name=name, tenant=tenant):
                self.assertEqual(self.refused(permissions.check_hostname, owner, moved, stored), refused)
                self.assertFalse(self.refused(permissions.check_hostname, self.operator, moved, stored))

    def test_a_port_on_the_relays_machine_is_for_operators(self) -> None:
        owner, backend = self.users[Role.OWNER], make_backend(self.tenant)
        stored = type(backend).objects.get(pk=backend.pk)
        permissions.check_backend(owner, backend, stored)
        for address in ("127.0.0.1:1080", "[::1]:1080", "localhost:1080", "0.0.0.0:1080", "192.0.2.1:1080"):
            backend.socks5_listen = address
            with self.subTest(address), self.assertRaises(ValidationError):
                permissions.check_backend(owner, backend, stored)
            permissions.check_backend(self.operator, backend, stored)
        backend.save()
        stored = type(backend).objects.get(pk=backend.pk)
        permissions.check_backend(owner, backend, stored)
        backend.socks5_listen = ""
        permissions.check_backend(owner, backend, stored)

    def test_a_way_out_through_the_nodes_is_for_operators_and_may_become_narrower(self) -> None:
        owner, backend = self.users[Role.OWNER], make_backend(self.tenant)
        for (allowed_before, before), (allowed, ports), refused in (
            ((False, []), (True, []), "outbound_allowed"),
            ((False, []), (True, [25]), "outbound_allowed"),
            ((True, [25, 465]), (True, [25, 80]), "allowed_outbound_ports"),
            ((True, [25, 465]), (True, []), "allowed_outbound_ports"),
            ((True, [25, 465]), (True, [25, 465]), ""),
            ((True, [25, 465]), (True, [465]), ""),
            ((True, []), (True, [465]), ""),
            ((True, []), (True, []), ""),
            ((True, [25]), (False, []), ""),
        ):
            stored = type(backend)(outbound_allowed=allowed_before, allowed_outbound_ports=before)
            backend.outbound_allowed, backend.allowed_outbound_ports = allowed, ports
            with self.subTest(before=before, ports=ports, allowed=allowed):
                permissions.check_backend(self.operator, backend, stored)
                if not refused:
                    permissions.check_backend(owner, backend, stored)
                    continue
                with self.assertRaises(ValidationError) as caught:
                    permissions.check_backend(owner, backend, stored)
                self.assertEqual(list(caught.exception.message_dict), [refused])
        with self.assertRaises(ValidationError):
            permissions.check_backend(owner, type(backend)(outbound_allowed=True))

    def test_a_public_port_that_was_not_given_may_stay_and_is_not_taken(self) -> None:
        owner, backend = self.users[Role.OWNER], make_backend(self.tenant)
        self.tenant.public_ports = "53"
        stored = PortClaim(pk=1, backend=backend, transport="tcp", public_port=22)
        for port, transport, before, refused in (
            (22, "tcp", stored, False),
            (22, "udp", stored, True),
            (25, "tcp", stored, True),
            (53, "tcp", stored, False),
            (22, "tcp", None, True),
            (53, "tcp", None, False),
        ):
            claim = PortClaim(pk=1, backend=backend, transport=transport, public_port=port)
            with self.subTest(port=port, transport=transport, new=before is None):
                self.assertEqual(self.refused(permissions.check_port_claim, owner, claim, before), refused)
                self.assertFalse(self.refused(permissions.check_port_claim, self.operator, claim, before))

    def test_only_operators_give_a_domain(self) -> None:
        owner = self.users[Role.OWNER]
        waiting, proved = (
            make_domain(self.tenant, name, by)
            for name, by in (("a.example.com", None), ("b.example.com", VerifiedBy.OPERATOR))
        )
        for domain, stored, refused in ((waiting, None, False), (proved, None, True), (proved, proved, False)):
            with self.subTest(domain=domain, stored=stored):
                self.assertEqual(self.refused(permissions.check_domain, owner, domain, stored), refused)
                self.assertFalse(self.refused(permissions.check_domain, self.operator, domain, stored))
        self.assertTrue(self.refused(permissions.check_domain, owner, proved, waiting))

    def test_a_key_stays_on_record_but_for_operators(self) -> None:
        owner, key = self.users[Role.OWNER], rotate(self.tenant)
        self.assertTrue(self.refused(permissions.check_row, owner, None, key))
        self.assertFalse(self.refused(permissions.check_row, self.operator, None, key))
        self.assertFalse(self.refused(permissions.check_row, owner, key, key))
        self.assertFalse(self.refused(permissions.check_row, owner, None, make_backend(self.tenant)))
