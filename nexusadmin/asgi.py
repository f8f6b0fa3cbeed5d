"""The admin's web application for an ASGI server: `uvicorn nexusadmin.asgi:application`."""

import os
import warnings

from django.core.asgi import get_asgi_application
from django.core.exceptions import ImproperlyConfigured

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "nexusadmin.settings")

# WhiteNoise answers with Django's FileResponse, which is read synchronously, a chunk at a time: harmless, and nothing
# that whoever reads the log could act on.
warnings.filterwarnings("ignore", "StreamingHttpResponse must consume synchronous iterators", Warning)

application = get_asgi_application()


def _check_static_files() -> None:
    from nexusadmin.static_files import REMEDY, collected

    if not collected():
        raise ImproperlyConfigured(f"DEBUG is off and the admin's static files are not collected:\n    {REMEDY}")


_check_static_files()
