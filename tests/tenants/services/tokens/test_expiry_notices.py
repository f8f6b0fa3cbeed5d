"""Tests of tenants.services.tokens.expiry_notices and webhook: who is told of tokens that end, and when."""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime, timedelta
from smtplib import SMTPDataError, SMTPRecipientsRefused
from unittest import mock

import time_machine
from django.core import mail
from django.core.mail import EmailMessage
from django.test import TestCase, override_settings

from tenants.models import Backend, ExpiryNotice, Role, Tenant
from tenants.services import webhook
from tenants.services.tokens.expiry_notices import days_reached, send_due
from tests.support.registry import make_served_backend, make_tenant, make_token
from tests.support.webhook import WebhookReceiver
from tests.tenants.admin.pages import make_user

ENDS = datetime(2026, 7, 31, 12, tzinfo=UTC)
SECRET = "webhook-secret-webhook-secret"


class NoticeTests(TestCase):
    tenant: Tenant
    backend: Backend

    @classmethod
    def setUpTestData(cls) -> None:
        cls.tenant = make_tenant(slug="acme")
        cls.backend = cls.ending(cls.tenant, ENDS, "edge")
        for name, role in (("owner", Role.OWNER), ("editor", Role.EDITOR)):
            user = make_user(name, acme=role)
            user.email = f"{name}@example.com"
            user.save()

    @classmethod
    def ending(cls, tenant: Tenant, ends: datetime, name: str) -> Backend:
        backend = make_served_backend(tenant, name=name)
        credential = backend.credential
        credential.kind, credential.secret = "presigned_token", make_token(exp=int(ends.timestamp()))
        credential.save()
        return backend

    def told(self, before: timedelta) -> list[EmailMessage]:
        mail.outbox.clear()
        with time_machine.travel(ENDS - before, tick=False):
            send_due()
        return list(mail.outbox)

    def test_each_threshold_is_told_once_to_the_owners(self) -> None:
        numbers = [
            len(self.told(timedelta(days=days)))
            for days in (60, 31, 30, 29.9, 8, 7, 6.5, 1.5, 1, 0.9, 0.1, 0, -1, -100)
        ]
        self.assertEqual(numbers, [0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0])
        self.assertEqual(list(ExpiryNotice.objects.order_by("pk").values_list("days", flat=True)), [30, 7, 1, 0])

    def test_the_mail(self) -> None:
        with override_settings(WARNING_MAIL_TO=["ops@example.com"]):
            [message] = self.told(timedelta(days=3))
        self.assertEqual((message.bcc, message.to), (["owner@example.com", "ops@example.com"], []))
        self.assertEqual(message.subject, "[nexusadmin] acme: A token ends")
        self.assertIn("edge: ends on 2026-07-31 12:00 UTC", message.body)
        self.assertNotIn(self.backend.credential.secret, message.body)

    def test_a_tenant_gets_one_mail_and_never_anothers(self) -> None:
        other = make_tenant(slug="other")
        user = make_user("stranger", other=Role.OWNER)
        user.email = "stranger@example.net"
        user.save()
        self.ending(self.tenant, ENDS, "second")
        self.ending(other, ENDS, "secluded")
        acme, others = self.told(timedelta(days=1))
        self.assertEqual((acme.bcc, others.bcc), (["owner@example.com"], ["stranger@example.net"]))
        self.assertIn("2 tokens end", acme.subject)
        self.assertNotIn("secluded", acme.body)

    def test_a_renewed_token_is_told_anew(self) -> None:
        self.assertEqual(len(self.told(timedelta(days=1))), 1)
        credential = self.backend.credential
        credential.secret = make_token(exp=int((ENDS + timedelta(days=20)).timestamp()))
        credential.save()
        self.assertEqual(len(self.told(timedelta(days=0))), 1)

    def test_a_next_token_in_time_silences(self) -> None:
        credential = self.backend.credential
        credential.next_secret, credential.next_at = make_token(), ENDS - timedelta(hours=1)
        credential.save()
        self.assertEqual(self.told(timedelta(days=1)), [])

    def test_what_is_switched_off_is_not_told(self) -> None:
        for row in (self.backend, self.tenant):
            type(row).objects.filter(pk=row.pk).update(enabled=False)
            self.assertEqual(self.told(timedelta(days=1)), [])
            type(row).objects.filter(pk=row.pk).update(enabled=True)

    def test_a_mail_server_that_is_down_is_tried_again(self) -> None:
        with mock.patch.object(EmailMessage, "send", side_effect=ConnectionRefusedError):
            self.assertEqual(self.told(timedelta(days=1)), [])
        self.assertEqual(len(self.told(timedelta(days=1))), 1)

    def test_mail_that_is_refused_for_one_tenant_holds_up_no_other(self) -> None:
        other = make_tenant(slug="zebra")
        self.ending(other, ENDS, "stripes")
        user = make_user("zoe", zebra=Role.OWNER)
        user.email = "zoe@example.com"
        user.save()
        send = EmailMessage.send
        for error in (
            SMTPRecipientsRefused({"owner@example.com": (550, b"no such user")}),
            SMTPRecipientsRefused({"owner@example.com": (450, b"later")}),
            SMTPDataError(554, b"looks like spam"),
            ValueError("Invalid address"),
        ):

            def refuse(message: EmailMessage, error: Exception = error) -> int:
                if "owner@example.com" in message.bcc:
                    raise error
                return send(message)

            with self.subTest(error), time_machine.travel(ENDS - timedelta(days=2)):
                mail.outbox.clear()
                ExpiryNotice.objects.all().delete()
                with mock.patch.object(EmailMessage, "send", refuse):
                    self.assertEqual(send_due(), "1 tokens told by mail")
                self.assertEqual([message.bcc for message in mail.outbox], [["zoe@example.com"]])
                self.assertEqual(send_due(), "1 tokens told by mail")  # and the other when it is taken

    def test_a_webhook_that_refuses_what_one_tenant_has_is_told_of_the_others(self) -> None:
        self.ending(make_tenant(slug="zebra"), ENDS, "stripes")
        url = {"WARNING_WEBHOOK_URL": "https://hooks.example.com/secret", "WARNING_WEBHOOK_SECRET": ""}
        for answered, asked in ((True, 2), (False, 1)):
            error = webhook.WebhookError("no", answered=answered)
            with self.subTest(answered=answered), override_settings(**url), time_machine.travel(ENDS):
                with mock.patch.object(webhook, "post", side_effect=error) as post:
                    send_due()
                self.assertEqual(post.call_count, asked)

    def test_the_webhook_is_told_and_signed(self) -> None:
        with WebhookReceiver() as receiver:
            with override_settings(WARNING_WEBHOOK_URL=receiver.url, WARNING_WEBHOOK_SECRET=SECRET):
                self.told(timedelta(days=6))
                self.told(timedelta(days=5))
        [(content, signature, body)] = receiver.got
        self.assertEqual(content["event"], "tokens.expiring")
        self.assertEqual((content["tenant"], content["tokens"][0]["backend"]), ("acme", "edge"))
        seconds, digest = (part.partition("=")[2] for part in signature.split(","))
        expected = hmac.new(SECRET.encode(), f"{seconds}.".encode() + body, hashlib.sha256).hexdigest()
        self.assertEqual(digest, expected)

    def test_a_webhook_that_refuses_or_redirects_is_tried_again_and_leaks_nothing(self) -> None:
        for status in (500, 302):
            with WebhookReceiver(status) as receiver:
                with override_settings(WARNING_WEBHOOK_URL=receiver.url, WARNING_WEBHOOK_SECRET=SECRET):
                    with self.assertRaisesMessage(webhook.WebhookError, f"the webhook answers {status}"):
                        webhook.post("test", {})
                    self.told(timedelta(days=6))
            self.assertEqual(len(receiver.got), 2)
        self.assertEqual(ExpiryNotice.objects.filter(channel="webhook").count(), 0)
        with override_settings(WARNING_WEBHOOK_URL=receiver.url, WARNING_WEBHOOK_SECRET=SECRET):
            with self.assertRaisesMessage(webhook.WebhookError, "cannot be reached (ConnectionRefusedError)"):
                webhook.post("test", {})

    def test_days(self) -> None:
        for left, days in ((31, None), (30, 30), (7.1, 30), (7, 7), (1, 1), (0.001, 1), (0, 0), (-3, 0)):
            if days is not None:
                self.assertEqual(days_reached(ENDS, ENDS - timedelta(days=left)), days)
