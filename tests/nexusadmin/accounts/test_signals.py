"""Log-ins are on record, and what fails too."""

from __future__ import annotations

from types import SimpleNamespace

from django.test import TestCase

from nexusadmin.accounts.signals import login_failed
from tests.tenants.changes.test_recorder import make_user, recorded


class LogInTest(TestCase):
    def test_tries_of_whoever_is_locked_out_do_not_fill_the_trail(self) -> None:
        for locked_out, failures, kept in ((True, None, 0), (True, 5, 1), (False, None, 1)):
            request = SimpleNamespace(axes_locked_out=locked_out, axes_failures_since_start=failures)
            with recorded() as found:
                login_failed(sender=None, credentials={"username": "x"}, request=request)
            self.assertEqual(len(found), kept)

    def test_log_in_and_out(self) -> None:
        make_user("ann", is_staff=True)
        with recorded() as found:
            page = "/admin/login/"
            self.client.post(page, {"username": "ann", "password": "wrong"}, REMOTE_ADDR="192.0.2.7")
            self.client.post(page, {"username": "my password", "password": "wrong"}, REMOTE_ADDR="192.0.2.7")
            self.client.post(page, {"username": "a\0b" + "x" * 5_000, "password": "wrong"})
            self.client.post(
                page, {"username": "ann", "password": "correct horse battery"}, REMOTE_ADDR="::ffff:192.0.2.8"
            )
            self.client.post("/admin/logout/")
        actions = [(each.action, each.actor_name, each.object_text, each.address) for each in found]
        self.assertEqual(actions[0], ("log-in failed", "nobody", "ann", "192.0.2.7"))
        self.assertEqual(actions[1][:2], ("log-in failed", "nobody"))
        self.assertEqual(
            [each[:3] for each in actions[-2:]], [("logged in", "ann", "ann"), ("logged out", "ann", "ann")]
        )
        self.assertEqual(actions[-2][3], "192.0.2.8")
        self.assertEqual({each.origin for each in found}, {"admin"})
        self.assertNotIn("my password", str(actions))
