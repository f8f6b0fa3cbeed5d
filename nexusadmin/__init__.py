"""The Django project around the registry: settings, addresses, processes."""

from nexusadmin.celery import app as celery_app

__all__ = ["celery_app"]
