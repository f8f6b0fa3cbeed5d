"""``manage.py housekeeping``: the jobs of Celery's beat, for cron where no beat runs."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from tenants import housekeeping


class Command(BaseCommand):
    """Arguments and output; `tenants.housekeeping` runs the jobs."""

    help = "Run the registry's regular jobs once, all or those named. Celery's beat does the same where it runs."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("jobs", nargs="*", metavar="JOB", help=", ".join(job.name for job in housekeeping.JOBS))

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            jobs = [housekeeping.job(name) for name in options["jobs"]] or list(housekeeping.JOBS)
        except LookupError as error:
            raise CommandError(str(error)) from None
        failed = []
        for job in jobs:
            try:
                done = job.run()
            except Exception as error:  # a job that fails must not keep the others from running
                failed.append(job.name)
                self.stderr.write(f"{job.name}: failed ({type(error).__name__}: {error})")
            else:
                if done:
                    self.stdout.write(f"{job.name}: {done}")
        if failed:
            raise CommandError(f"{len(failed)} of {len(jobs)} jobs failed: {', '.join(failed)}")
