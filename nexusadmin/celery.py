"""The Celery application: `celery -A nexusadmin worker --beat` runs its tasks, and the jobs when they are due."""

import os
from typing import Any

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "nexusadmin.settings")

app = Celery("nexusadmin")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@app.on_after_finalize.connect
def schedule_jobs(sender: Celery, **_: Any) -> None:
    """Give the registry's jobs to Celery's beat."""
    from tenants.tasks import beat_schedule

    sender.conf.beat_schedule = beat_schedule()
