"""The Celery application: `celery -A nexusadmin worker` runs its tasks."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "nexusadmin.settings")

app = Celery("nexusadmin")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
