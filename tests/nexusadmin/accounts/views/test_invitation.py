"""The page behind an invitation's link."""

from __future__ import annotations

import re
from typing import Any

from django.contrib.auth import get_user_model
from django.test import Client, TestCase

from nexusadmin.accounts.models import LoginSession
from tenants.models import Invitation, Membership, Role
from tenants.services import invitations
from tests.support.registry import make_tenant
from tests.tenants.admin.pages import make_user
from tests.tenants.services.test_invitations import mailed_token, make_invitation

ACCEPT = "/invitations/accept/"
PASSWORD = "a password that nobody guesses"


class InvitationPageTest(TestCase):
    def setUp(self) -> None:
        self.acme = make_tenant(slug="acme", name="Acme Inc")
        self.owner = make_user("owner", acme=Role.OWNER)
        self.invitation = make_invitation(self.owner, tenant=self.acme)
        invitations.send(self.invitation.pk, "http://testserver/")
        self.token = mailed_token()

    def follow(self, client: Client | None = None) -> Any:
        client = client or self.client
        response = client.get(f"/invitations/{self.token}/")
        self.assertRedirects(response, ACCEPT, fetch_redirect_response=False)
        self.assertEqual(response["Referrer-Policy"], "no-referrer")
        self.assertIn("no-store", response["Cache-Control"])
        return client.get(ACCEPT)

    def test_somebody_new_makes_an_account_and_is_in(self) -> None:
        page = self.follow()
        self.assertContains(page, "Acme Inc")
        self.assertNotContains(page, self.token)
        weak = self.client.post(ACCEPT, {"new_password1": "new@example.com", "new_password2": "new@example.com"})
        self.assertContains(weak, "too similar")
        self.assertFalse(get_user_model().objects.filter(username="new@example.com").exists())
        done = self.client.post(ACCEPT, {"new_password1": PASSWORD, "new_password2": PASSWORD}, follow=True)
        self.assertEqual(done.redirect_chain, [("/admin/", 302)])
        user = get_user_model().objects.get(username="new@example.com")
        self.assertEqual((user.is_staff, user.is_superuser, user.email), (True, False, "new@example.com"))
        self.assertEqual(Membership.objects.get(user=user).role, Role.EDITOR)
        self.assertEqual(self.follow(Client()).status_code, 404)

    def test_somebody_who_is_logged_in_joins(self) -> None:
        user = make_user("known")
        self.client.force_login(user)
        self.assertContains(self.follow(), "Join as known")
        self.assertFalse(Membership.objects.filter(user=user).exists(), "looking is no answer")
        self.client.post(ACCEPT)
        self.assertEqual(Membership.objects.get(user=user).role, Role.EDITOR)

    def test_logging_in_leads_back(self) -> None:
        user = make_user("known")
        user.set_password(PASSWORD)
        user.save()
        page = self.follow()
        self.assertContains(page, f"/admin/login/?next={ACCEPT}")
        answer = self.client.post(f"/admin/login/?next={ACCEPT}", {"username": "known", "password": PASSWORD})
        self.assertRedirects(answer, ACCEPT)
        self.assertContains(self.client.get(ACCEPT), "Join as known")

    def test_an_account_of_that_name_is_not_taken_over(self) -> None:
        user = make_user("New@Example.com")
        page = self.follow()
        self.assertContains(page, "log in to join")
        self.client.post(ACCEPT, {"new_password1": PASSWORD, "new_password2": PASSWORD})
        user.refresh_from_db()
        self.assertFalse(user.check_password(PASSWORD))
        self.assertEqual(get_user_model().objects.filter(username__iexact="new@example.com").count(), 1)
        self.assertFalse(Membership.objects.filter(user=user).exists())

    def test_what_is_not_valid_all_looks_the_same(self) -> None:
        texts = []
        for end in ("unknown", "expired", "deleted", "none"):
            client = Client()
            if end == "expired":
                Invitation.objects.update(expires_at="2020-01-01T00:00Z")
            if end == "deleted":
                Invitation.objects.all().delete()
            if end != "none":
                client.get(f"/invitations/{'x' * 43 if end == 'unknown' else self.token}/")
            page = client.get(ACCEPT)
            self.assertEqual(page.status_code, 404)
            texts.append(re.sub(r'(Token|token)"?:? ?"?[^"]*"| value="[^"]*"', "", page.content.decode()))
        self.assertEqual(len(set(texts)), 1)

    def test_guesses_fill_no_table(self) -> None:
        for number in range(3):
            Client().get(f"/invitations/guess-{number}/")
        self.assertFalse(LoginSession.objects.exists())

    def test_a_member_is_told(self) -> None:
        self.client.force_login(self.owner)
        self.follow()
        self.assertContains(self.client.post(ACCEPT), "You are a member of Acme Inc already")

    def test_posts_need_the_pages_own_token(self) -> None:
        client = Client(enforce_csrf_checks=True)
        client.force_login(make_user("known"))
        self.follow(client)
        self.assertEqual(client.post(ACCEPT).status_code, 403)
        self.assertEqual(Membership.objects.count(), 1)
