"""System check for the admin's static files."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register


def collected() -> bool:
    """Return whether static files are served from the packages, or have been collected."""
    return bool(settings.DEBUG) or (settings.STATIC_ROOT / "staticfiles.json").is_file()


REMEDY = "python manage.py collectstatic --noinput"


@register(deploy=True)
def check_static_files(**_: Any) -> list[CheckMessage]:
    """Report static files that were not collected: the admin's pages would all fail."""
    if collected():
        return []
    return [Error(f"No collected static files in {settings.STATIC_ROOT}.", hint=REMEDY, id="nexusadmin.E001")]
