"""The registry as a Django application."""

from django.apps import AppConfig


class TenantsConfig(AppConfig):
    """Tenants, their backends, and what the relay serves for them."""

    name = "tenants"
    verbose_name = "Registry"
