"""Tests of tenants.services.owner_mail: who gets a tenant's mail, and which failures are for good."""

from __future__ import annotations

from smtplib import SMTPDataError, SMTPRecipientsRefused, SMTPServerDisconnected
from typing import Any

from django.core import mail
from django.test import SimpleTestCase, TestCase, override_settings

from tenants.models import Role
from tenants.services.owner_mail import is_of_one_mail, mail_owners, refused_for_good
from tests.support.registry import make_tenant
from tests.tenants.admin.pages import make_user


class MailOwnersTests(TestCase):
    def setUp(self) -> None:
        self.acme = make_tenant(slug="acme")
        make_tenant(slug="other")

    def user(self, name: str, **fields: Any) -> None:
        roles = fields.pop("roles", {"acme": Role.OWNER})
        user = make_user(name, **roles)
        user.email = f"{name}@example.com"
        for field, value in fields.items():
            setattr(user, field, value)
        user.save()

    def test_active_owners_of_the_tenant_who_do_not_see_each_others_address(self) -> None:
        self.user("olga")
        self.user("otto")
        self.user("away", is_active=False)
        self.user("mute", email="")
        self.user("editor", roles={"acme": Role.EDITOR})
        self.user("stranger", roles={"other": Role.OWNER})
        with override_settings(WARNING_MAIL_TO=["operators@example.com"]):
            mail_owners(self.acme, "a subject", "a text")
        [sent] = mail.outbox
        self.assertEqual(sent.bcc, ["olga@example.com", "otto@example.com", "operators@example.com"])
        self.assertEqual((sent.to, sent.cc), ([], []))
        self.assertEqual((sent.subject, sent.body), ("[nexusadmin] acme: a subject", "a text"))

    @override_settings(WARNING_MAIL_TO=[])
    def test_without_recipients_there_is_no_mail(self) -> None:
        mail_owners(self.acme, "a subject", "a text")
        self.assertEqual(mail.outbox, [])


class FailureTests(SimpleTestCase):
    def test_what_is_of_one_mail_and_what_is_for_good(self) -> None:
        cases: tuple[tuple[Exception, bool, bool], ...] = (
            (SMTPRecipientsRefused({"a@example.com": (550, b"no such user")}), True, True),
            (SMTPRecipientsRefused({"a@example.com": (450, b"later"), "b@example.com": (550, b"no")}), True, False),
            (SMTPDataError(554, b"spam"), True, True),
            (SMTPDataError(451, b"later"), True, False),
            (ValueError("a header with a new line"), True, True),
            (SMTPServerDisconnected("gone"), False, False),
            (ConnectionRefusedError(), False, False),
        )
        for error, of_one_mail, for_good in cases:
            with self.subTest(repr(error)):
                self.assertIs(is_of_one_mail(error), of_one_mail)
                self.assertIs(refused_for_good(error), for_good)
