"""Tests of tenants.housekeeping: the jobs, for Celery's beat and from the command line."""

from datetime import timedelta
from importlib import import_module
from io import StringIO
from unittest import mock

from django.conf import settings
from django.core.management import CommandError, call_command
from django.test import TestCase
from django.utils import timezone

from nexusadmin.celery import app
from tenants import housekeeping
from tenants.tasks import run_job


class HousekeepingTests(TestCase):
    def test_beat_knows_every_job_and_runs_it(self) -> None:
        app.finalize()
        self.assertEqual(list(app.conf.beat_schedule), [job.name for job in housekeeping.JOBS])
        for name, entry in app.conf.beat_schedule.items():
            self.assertEqual((entry["task"], entry["args"]), (run_job.name, (name,)))
            run_job(name)

    def test_expired_sessions_go(self) -> None:
        store = import_module(settings.SESSION_ENGINE).SessionStore
        old, new = store(), store()
        old.set_expiry(timezone.now() - timedelta(seconds=1))
        old.save()
        new.save()
        call_command("housekeeping", "sessions")
        self.assertEqual([store().exists(each.session_key) for each in (old, new)], [False, True])

    def test_one_job_that_fails_is_named_and_the_others_run(self) -> None:
        jobs = (housekeeping.Job("bad", 1.0, "tests.none.such"), housekeeping.Job("good", 1.0, "builtins.str"))
        errors = StringIO()
        with mock.patch.object(housekeeping, "JOBS", jobs):
            with self.assertRaisesMessage(CommandError, "1 of 2 jobs failed: bad"):
                call_command("housekeeping", stderr=errors)
            with self.assertRaisesMessage(CommandError, "There is no job 'worse': choose one of bad, good."):
                call_command("housekeeping", "worse")
        self.assertIn("bad: failed (ModuleNotFoundError", errors.getvalue())
