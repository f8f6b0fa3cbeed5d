"""Django's admin without its autodiscovery, for processes that show no pages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.contrib.admin import autodiscover
from django.contrib.admin.apps import SimpleAdminConfig
from django.contrib.admin.checks import check_admin_app, check_dependencies
from django.core.checks import CheckMessage, Tags, register


class AdminConfig(SimpleAdminConfig):
    """Lets `nexusadmin.web.urls` and the system checks load the admin's pages, so that commands start without them."""

    def ready(self) -> None:
        """Register Django's checks of the admin."""
        register(check_dependencies, Tags.admin)
        register(check_pages, Tags.admin)


def check_pages(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Report errors in the admin's pages."""
    autodiscover()
    return check_admin_app(app_configs, **kwargs)
