"""Owners invite; nobody learns from it who has an account."""

from __future__ import annotations

from typing import Any

from django.core import mail
from django.test import Client, override_settings

from tenants.models import Invitation, Membership
from tenants.services.invitations import MOST_TO_ADDRESS
from tests.tenants.admin.pages import AdminTestCase, errors_of, page


class InvitationPageTest(AdminTestCase):
    def invite(self, email: str, tenant: Any = None, **fields: Any) -> Any:
        data = {"tenant": (tenant or self.acme).pk, "email": email, "role": "editor", **fields}
        with self.captureOnCommitCallbacks(execute=True):
            return self.client.post(page("add", Invitation), data)

    def test_an_owner_invites(self) -> None:
        self.client.force_login(self.owner)
        self.assertSaved(self.invite(" Somebody@Example.com "))
        invitation = Invitation.objects.get()
        self.assertEqual((invitation.email, invitation.role), ("somebody@example.com", "editor"))
        self.assertEqual((invitation.invited_by, invitation.state), (self.owner, "open"))
        self.assertEqual(mail.outbox[0].to, ["somebody@example.com"])
        self.assertIn("http://testserver/invitations/", mail.outbox[0].body)
        self.assertContains(self.client.get(page("changelist", Invitation)), "somebody@example.com")
        self.assertContains(self.client.get(page("change", invitation)), "somebody@example.com")
        response = self.invite("somebody@example.com")
        self.assertIn("invited already", errors_of(response)["email"][0])

    def test_who_has_an_account_makes_no_difference(self) -> None:
        type(self.owner).objects.filter(pk=self.stranger.pk).update(email="stranger@example.com")
        self.client.force_login(self.owner)
        answers = [self.invite(email) for email in ("stranger@example.com", "nobody-at-all@example.com")]
        self.assertEqual([answer.status_code for answer in answers], [302, 302])
        self.assertEqual([answer.headers["Location"] for answer in answers], [page("changelist", Invitation)] * 2)
        self.assertEqual(self.client.get(page("add", Membership)).status_code, 403)
        self.assertEqual(self.client.post(page("add", Membership), {"user": "stranger"}).status_code, 403)

    def test_a_new_link_once_a_minute(self) -> None:
        self.client.force_login(self.owner)
        self.invite("somebody@example.com")
        chosen = {"action": "send_again", "_selected_action": [Invitation.objects.get().pk]}
        with self.captureOnCommitCallbacks(execute=True):
            response = self.client.post(page("changelist", Invitation), chosen, follow=True)
        self.assertContains(response, "wait a minute")
        self.assertEqual(len(mail.outbox), 1)
        Invitation.objects.update(sent_at=None)
        with self.captureOnCommitCallbacks(execute=True):
            response = self.client.post(page("changelist", Invitation), chosen, follow=True)
        self.assertContains(response, "1 sent.")
        self.assertEqual(len(mail.outbox), 2)
        self.assertNotEqual(mail.outbox[0].body, mail.outbox[1].body)

    def test_deleting_and_inviting_again_gets_no_more_mails_to_a_stranger(self) -> None:
        self.client.force_login(self.owner)
        for _ in range(MOST_TO_ADDRESS):
            self.assertSaved(self.invite("stranger@example.net"))
            self.client.post(page("delete", Invitation.objects.get()), {"post": "yes"})
        self.assertIn("wait until tomorrow", errors_of(self.invite("Stranger@example.net"))["email"][0])
        self.assertSaved(self.invite("somebody@example.com"))
        self.assertEqual(len(mail.outbox), MOST_TO_ADDRESS + 1)

    @override_settings(PUBLIC_URL="https://admin.example.com")
    def test_the_link_leads_to_the_known_address_whatever_the_request_says(self) -> None:
        self.client.force_login(self.owner)
        self.client.defaults["HTTP_HOST"] = "testserver:8443"
        self.assertSaved(self.invite("somebody@example.com"))
        self.assertIn("\nhttps://admin.example.com/invitations/", mail.outbox[0].body)

    def test_one_of_an_owner_who_is_none_any_more_has_ended(self) -> None:
        self.client.force_login(self.owner)
        self.invite("somebody@example.com")
        address = page("changelist", Invitation)
        self.assertRegex(self.client.get(address).content.decode(), r">\s*open\s*<")
        Membership.objects.filter(user=self.editor).update(role="owner")
        Membership.objects.filter(user=self.owner).update(role="editor")
        self.client.force_login(self.editor)
        self.assertRegex(self.client.get(address).content.decode(), r">\s*ended\s*<")
        chosen = {"action": "send_again", "_selected_action": [Invitation.objects.get().pk]}
        Invitation.objects.update(sent_at=None)
        with self.captureOnCommitCallbacks(execute=True):
            self.client.post(address, chosen)
        self.assertRegex(self.client.get(address).content.decode(), r">\s*open\s*<")

    def test_what_is_accepted_does_not_change(self) -> None:
        self.client.force_login(self.owner)
        self.invite("somebody@example.com")
        invitation = Invitation.objects.get()
        self.assertSaved(self.client.post(page("change", invitation), {"role": "owner"}))
        invitation.refresh_from_db()
        self.assertEqual(invitation.role, "owner")
        Invitation.objects.update(accepted_at=invitation.expires_at)
        self.assertEqual(self.client.post(page("change", invitation), {"role": "viewer"}).status_code, 403)
        self.assertSaved(self.client.post(page("delete", invitation), {"post": "yes"}))

    def test_nobody_but_owners_invites(self) -> None:
        for user in (self.editor, self.viewer, self.nobody):
            self.client.force_login(user)
            self.assertEqual(self.invite("somebody@example.com").status_code, 403)
            self.assertEqual(self.client.get(page("changelist", Invitation)).status_code, 403)
        self.client.force_login(self.stranger)
        self.assertIn("tenant", errors_of(self.invite("somebody@example.com")))
        self.assertFalse(Invitation.objects.exists())
        self.assertEqual(mail.outbox, [])

    def test_foreign_invitations_are_not_there(self) -> None:
        self.client.force_login(self.stranger)
        self.invite("somebody@example.com", self.other)
        invitation = Invitation.objects.get()
        self.client = Client()  # messages are in a cookie
        self.client.force_login(self.owner)
        self.assertNotContains(self.client.get(page("changelist", Invitation)), "somebody@example.com")
        missing = Invitation(pk=987_654)
        for action in ("change", "delete", "history"):
            answers = [self.client.post(page(action, row), {"post": "yes"}) for row in (invitation, missing)]
            self.assertEqual([answer.status_code for answer in answers], [302, 302])
        self.assertTrue(Invitation.objects.filter(pk=invitation.pk).exists())
