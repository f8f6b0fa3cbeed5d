"""Accounts as a Django application."""

from django.apps import AppConfig


class AccountsConfig(AppConfig):
    """Log-in sessions and second factors of Django's users."""

    name = "nexusadmin.accounts"
    label = "accounts"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Connect the signals."""
        from nexusadmin.accounts import signals
        from nexusadmin.accounts.services import login_sessions

        signals.connect()
        login_sessions.connect()
