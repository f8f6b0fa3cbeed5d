"""The project as a Django application: it has commands and checks, and no models."""

from django.apps import AppConfig


class NexusadminConfig(AppConfig):
    """Loads the project's checks."""

    name = "nexusadmin"

    def ready(self) -> None:
        """Register the checks."""
        from nexusadmin.web import static_files  # noqa: F401
