"""Tests of tenants.housekeeping: the jobs, for Celery's beat and from the command line."""

from django.test import TestCase

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
