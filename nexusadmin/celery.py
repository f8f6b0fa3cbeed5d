"""The Celery application: `celery -A nexusadmin worker --beat` runs its tasks, and the jobs when they are due.

Loaded by Celery's own commands, and by `tenants.tasks` (settings.TASKS_APPLICATION) in any thread of other processes.
"""

import os
from typing import Any

from celery import Celery

from nexusadmin import redis_broker

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "nexusadmin.settings")

redis_broker.use()
app = Celery("nexusadmin")
app.set_default()  # of every thread, not only of the one that loads it
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@app.on_after_finalize.connect
def schedule_jobs(sender: Celery, **_: Any) -> None:
    """Give the registry's jobs to Celery's beat."""
    from tenants.tasks import beat_schedule

    sender.conf.beat_schedule = beat_schedule()
