"""Tests of the command housekeeping as cron runs it."""

from __future__ import annotations

from datetime import timedelta
from importlib import import_module
from io import StringIO
from unittest import mock

from django.conf import settings
from django.core.management import CommandError, call_command
from django.test import TestCase
from django.utils import timezone

from tenants import housekeeping


class HousekeepingCommandTests(TestCase):
    def test_one_job_that_fails_is_named_and_the_others_run(self) -> None:
        jobs = (housekeeping.Job("bad", 1.0, "tests.none.such"), housekeeping.Job("good", 1.0, "builtins.str"))
        errors = StringIO()
        with mock.patch.object(housekeeping, "JOBS", jobs):
            with self.assertRaisesMessage(CommandError, "1 of 2 jobs failed: bad"):
                call_command("housekeeping", stderr=errors)
            with self.assertRaisesMessage(CommandError, "There is no job 'worse': choose one of bad, good."):
                call_command("housekeeping", "worse")
        self.assertIn("bad: failed (ModuleNotFoundError", errors.getvalue())

    def test_expired_sessions_go(self) -> None:
        store = import_module(settings.SESSION_ENGINE).SessionStore
        old, new = store(), store()
        old.set_expiry(timezone.now() - timedelta(seconds=1))
        old.save()
        new.save()
        call_command("housekeeping", "sessions")
        self.assertEqual([store().exists(each.session_key) for each in (old, new)], [False, True])
