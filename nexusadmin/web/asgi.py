"""The admin's web application for an ASGI server: `uvicorn nexusadmin.web.asgi:application`."""

from __future__ import annotations

import os
import warnings
from importlib import import_module
from typing import TYPE_CHECKING

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.exceptions import ImproperlyConfigured

from nexusadmin.web.body_limit import BodyLimit
from nexusadmin.web.content_type import ContentTypeGate
from nexusadmin.web.http_only import HttpOnly

if TYPE_CHECKING:
    from tenants.verifier.app import VerifierApp

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "nexusadmin.settings")

# WhiteNoise answers with Django's FileResponse, which is read synchronously, a chunk at a time: harmless, and nothing
# that a reader of the log could act on.
warnings.filterwarnings("ignore", "StreamingHttpResponse must consume synchronous iterators", Warning)

_django = get_asgi_application()


def _with_verifier() -> VerifierApp:
    from tenants.verifier.app import VerifierApp  # Django is set up by now

    return VerifierApp(HttpOnly(BodyLimit(ContentTypeGate(_django))))  # type: ignore[arg-type]  # Django's types know dict only


application = _with_verifier()


def _load_pages() -> None:
    """Load the pages now rather than at the first request, and stop here where one is broken."""
    import_module(settings.ROOT_URLCONF)


_load_pages()


def _check_static_files() -> None:
    from nexusadmin.web.static_files import REMEDY, collected

    if not collected():
        raise ImproperlyConfigured(f"DEBUG is off and the admin's static files are not collected:\n    {REMEDY}")


_check_static_files()
