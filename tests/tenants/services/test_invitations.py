"""Invitations: single use, one mail a link, and no way back in for who was removed."""

from __future__ import annotations

import re
import threading
from datetime import timedelta
from typing import Any
from unittest import mock

import time_machine
from django.core import mail
from django.core.exceptions import ValidationError
from django.db import connection
from django.test import TestCase, TransactionTestCase
from django.utils import timezone

from tenants import tasks
from tenants.models import AuditEntry, Invitation, Membership, Role, SiteRole
from tenants.models import invitation as model
from tenants.services import invitations
from tenants.services.invitations import InvitationGone
from tests.support.registry import make_tenant
from tests.tenants.admin.pages import make_operator, make_user

SITE = "https://admin.example.com/"


def make_invitation(owner: Any, **fields: Any) -> Invitation:
    """Save an invitation."""
    fields = {"email": "new@example.com", "role": Role.EDITOR, **fields}
    return Invitation.objects.create(invited_by=owner, **fields)


def mailed_token() -> str:
    """Return the token in the newest mail."""
    found = re.search(r"/invitations/(\S+)/", mail.outbox[-1].body)
    assert found is not None
    return found[1]


class InvitationTest(TestCase):
    def setUp(self) -> None:
        self.acme = make_tenant(slug="acme", name="Acme\nInc")
        self.owner = make_user("owner", acme=Role.OWNER)
        self.user = make_user("somebody")
        self.invitation = make_invitation(self.owner, tenant=self.acme)

    def send(self) -> str:
        self.assertTrue(invitations.send(self.invitation.pk, SITE))
        self.invitation.refresh_from_db()
        return mailed_token()

    def test_one_mailbox_has_one_spelling(self) -> None:
        for email in ('"new"@example.com', "=?utf-8?q?new?=@example.com", "=?utf-8?q?=0a?=@example.com"):
            with self.subTest(email), self.assertRaisesMessage(ValidationError, "Write the address as it is"):
                make_invitation(self.owner, tenant=self.acme, email=email)

    def test_the_mail(self) -> None:
        self.assertEqual(self.invitation.state, "not sent")
        token = self.send()
        message = mail.outbox[-1]
        self.assertEqual((message.to, message.subject), (["new@example.com"], "Invitation to Acme Inc"))
        self.assertIn(f"https://admin.example.com/invitations/{token}/\n", message.body)
        self.assertEqual(self.invitation.state, "open")

    def test_the_token_is_stored_nowhere(self) -> None:
        token = self.send()
        self.assertGreaterEqual(len(token), 43)
        with connection.cursor() as cursor:
            for table in connection.introspection.table_names():
                cursor.execute(f'SELECT * FROM "{table}"')
                self.assertNotIn(token, str(cursor.fetchall()), table)
        hashed = invitations.token_hash(token)
        self.assertEqual(Invitation.objects.get().token_hash, hashed)
        recorded = [str(row) for row in AuditEntry.objects.values()]
        self.assertFalse([row for row in recorded if hashed in row], "nor its hash in the audit trail")

    def test_joining_once(self) -> None:
        hashed = invitations.token_hash(self.send())
        membership = invitations.accept(hashed, self.user)
        self.assertEqual((membership.user, membership.tenant, membership.role), (self.user, self.acme, Role.EDITOR))
        self.assertEqual(Invitation.objects.get().state, "accepted")
        with self.assertRaises(InvitationGone):
            invitations.accept(hashed, make_user("another"))

    def test_a_member_keeps_the_role(self) -> None:
        hashed = invitations.token_hash(self.send())
        with self.assertRaisesMessage(ValidationError, "You are a member of"):
            invitations.accept(hashed, self.owner)
        self.assertEqual(Membership.objects.get(user=self.owner).role, Role.OWNER)
        self.assertEqual(invitations.find(hashed), self.invitation)

    def test_a_new_link_ends_the_one_before(self) -> None:
        first, second = invitations.token_hash(self.send()), invitations.token_hash(self.send())
        with self.assertRaises(InvitationGone):
            invitations.find(first)
        self.assertEqual(invitations.find(second), self.invitation)

    def test_what_ends_an_invitation(self) -> None:
        other = make_user("second-owner", acme=Role.OWNER)

        def demote() -> None:
            Membership.objects.filter(user=self.owner).update(role=Role.EDITOR)

        def lock_out() -> None:
            type(other).objects.filter(pk=self.owner.pk).update(is_active=False)

        def leave() -> None:
            type(other).objects.filter(pk=self.owner.pk).update(is_staff=False)

        endings = {
            "deleted": self.invitation.delete,
            "its sender is no owner any more": demote,
            "its sender is removed": lambda: Membership.objects.filter(user=self.owner).delete(),
            "its sender is inactive": lock_out,
            "its sender may not log in here any more": leave,
            "its sender only looks on": lambda: SiteRole.objects.create(user=self.owner, role="auditor"),
            "its sender is gone": self.owner.delete,
            "its tenant is gone": self.acme.delete,
        }
        hashed = invitations.token_hash(self.send())
        self.assertEqual(invitations.find(hashed), self.invitation)
        for name, end in endings.items():
            with self.subTest(name):
                from django.db import transaction

                with transaction.atomic():
                    end()
                    with self.assertRaises(InvitationGone):
                        invitations.accept(hashed, self.user)
                    transaction.set_rollback(True)
        for nothing in ("", "0" * 64):
            with self.assertRaises(InvitationGone):
                invitations.find(nothing)

    def test_so_many_mails_a_day_and_no_more_also_for_one_that_is_made_anew(self) -> None:
        for _ in range(invitations.MOST_TO_ADDRESS):
            self.send()
            self.invitation.delete()
            self.invitation = make_invitation(self.owner, tenant=self.acme)
        self.assertFalse(invitations.send(self.invitation.pk, SITE))
        self.assertFalse(invitations.may_send_again(self.invitation))
        self.assertEqual(len(mail.outbox), invitations.MOST_TO_ADDRESS)
        another = make_invitation(self.owner, tenant=self.acme, email="ew@example.com")
        self.assertTrue(invitations.send(another.pk, SITE))
        with mock.patch.object(invitations, "MOST_OF_TENANT", 6):
            third = make_invitation(self.owner, tenant=self.acme, email="third@example.com")
            self.assertFalse(invitations.send(third.pk, SITE))
            elsewhere = make_tenant(slug="elsewhere")
            theirs = make_invitation(self.owner, tenant=elsewhere)
            self.assertTrue(invitations.send(theirs.pk, SITE))
        with time_machine.travel(timezone.now() + invitations.DAY, tick=False):
            self.send()

    def test_an_address_is_written_as_log_ins_look_for_it(self) -> None:
        for written, normal in (
            ("\u017fomebody@Example.com ", "somebody@example.com"),
            ("somebody@\uff45xample.com", "somebody@example.com"),
            ("somebody@e\u0301xample.com", "somebody@\u00e9xample.com"),
        ):
            made = make_invitation(self.owner, tenant=self.acme, email=written)
            self.assertEqual(made.email, normal)
            made.delete()
        with self.assertRaisesMessage(ValidationError, "more than 150 characters"):
            make_invitation(self.owner, tenant=self.acme, email="a@" + "\ufb03" * 60)

    def test_it_expires(self) -> None:
        hashed = invitations.token_hash(self.send())
        with time_machine.travel(timezone.now() + timedelta(days=7, seconds=1), tick=False):
            self.assertEqual(Invitation.objects.get().state, "expired")
            with self.assertRaises(InvitationGone):
                invitations.find(hashed)
            self.send()
            self.assertEqual(self.invitation.state, "open")

    def test_operators_invitations_need_no_membership(self) -> None:
        self.invitation.invited_by = make_operator()
        self.invitation.save()
        self.assertEqual(invitations.find(invitations.token_hash(self.send())), self.invitation)

    def test_a_mail_server_that_is_down(self) -> None:
        with mock.patch("django.core.mail.EmailMessage.send", side_effect=ConnectionRefusedError):
            with self.assertLogs("tenants.tasks", "WARNING") as said:
                tasks.mail_invitation(self.invitation.pk, SITE)
        self.assertIn("invitation not sent", str(said.output))
        self.invitation.refresh_from_db()
        self.assertEqual(self.invitation.state, "not sent")

    def test_what_is_accepted_or_gone_is_not_sent(self) -> None:
        invitations.accept(invitations.token_hash(self.send()), self.user)
        self.assertFalse(invitations.send(self.invitation.pk, SITE))
        self.assertFalse(invitations.send(987_654, SITE))

    def test_one_open_invitation_for_an_address(self) -> None:
        with self.assertRaisesMessage(ValidationError, "invited already"):
            Invitation(tenant=self.acme, email="new@example.com").validate_constraints()

    def test_only_so_many_wait_for_an_answer(self) -> None:
        with mock.patch.object(model, "MOST_OPEN", 2):
            make_invitation(self.owner, tenant=self.acme, email="second@example.com")
            with self.assertRaisesMessage(ValidationError, "wait for an answer"):
                make_invitation(self.owner, tenant=self.acme, email="third@example.com")


class RaceTest(TransactionTestCase):
    def test_of_two_who_open_one_link_one_joins(self) -> None:
        acme = make_tenant(slug="acme")
        invitation = make_invitation(make_user("owner", acme=Role.OWNER), tenant=acme)
        invitations.send(invitation.pk, SITE)
        hashed = invitations.token_hash(mailed_token())
        users = [make_user("one"), make_user("two")]
        barrier = threading.Barrier(2)
        results: list[str] = []

        def join(user: Any) -> None:
            try:
                barrier.wait()
                invitations.accept(hashed, user)
                results.append("joined")
            except InvitationGone:
                results.append("gone")
            finally:
                connection.close()

        threads = [threading.Thread(target=join, args=(user,)) for user in users]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(sorted(results), ["gone", "joined"])
        self.assertEqual(Membership.objects.exclude(user__username="owner").count(), 1)
