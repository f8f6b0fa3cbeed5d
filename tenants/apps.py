"""The registry as a Django application."""

from django.apps import AppConfig


class TenantsConfig(AppConfig):
    """Tenants, their backends, and what the relay serves for them."""

    name = "tenants"
    verbose_name = "Registry"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the system checks and the rules of rows, and connect the signals."""
        from tenants import checks, signals
        from tenants.rules import registration

        del checks
        registration.register()
        signals.connect()
