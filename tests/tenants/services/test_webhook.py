"""Tests of tenants.services.webhook: signed, taken or not, and neither address nor secret in an error."""

from __future__ import annotations

import hashlib
import hmac
import json

from django.test import SimpleTestCase, override_settings

from tenants.services import webhook
from tests.support.webhook import WebhookReceiver

SECRET = "webhook-secret-webhook-secret"


class WebhookTests(SimpleTestCase):
    def test_the_event_is_signed_with_its_time(self) -> None:
        with WebhookReceiver() as receiver:
            with override_settings(WARNING_WEBHOOK_URL=receiver.url, WARNING_WEBHOOK_SECRET=SECRET):
                webhook.post("tokens.expiring", {"tenant": "münchen"})
        [(content, signature, body)] = receiver.got
        self.assertEqual(content, {"event": "tokens.expiring", "tenant": "münchen"})
        self.assertEqual(json.loads(body), content)
        time, _, digest = signature.partition(",")
        seconds = time.removeprefix("t=")
        expected = hmac.new(SECRET.encode(), f"{seconds}.".encode() + body, hashlib.sha256).hexdigest()
        self.assertEqual(digest, f"v1={expected}")

    def test_without_a_secret_there_is_no_signature(self) -> None:
        with WebhookReceiver() as receiver:
            with override_settings(WARNING_WEBHOOK_URL=receiver.url, WARNING_WEBHOOK_SECRET=""):
                webhook.post("test", {})
        self.assertEqual([signature for _, signature, _ in receiver.got], [""])

    def test_a_refusal_and_a_redirect_are_errors_that_name_no_address(self) -> None:
        for status in (302, 404, 500):
            with self.subTest(status=status), WebhookReceiver(status) as receiver:
                with override_settings(WARNING_WEBHOOK_URL=receiver.url, WARNING_WEBHOOK_SECRET=SECRET):
                    with self.assertRaises(webhook.WebhookError) as raised:
                        webhook.post("test", {})
                self.assertEqual(str(raised.exception), f"the webhook answers {status}")
                self.assertTrue(raised.exception.answered)
                self.assertEqual(len(receiver.got), 1, "no redirect is followed")

    def test_a_receiver_that_is_away_may_be_tried_again(self) -> None:
        with WebhookReceiver() as receiver:
            url = receiver.url
        with override_settings(WARNING_WEBHOOK_URL=url, WARNING_WEBHOOK_SECRET=SECRET):
            with self.assertRaises(webhook.WebhookError) as raised:
                webhook.post("test", {})
        self.assertFalse(raised.exception.answered)
        for hidden in (url, SECRET, "127.0.0.1"):
            self.assertNotIn(hidden, str(raised.exception))
