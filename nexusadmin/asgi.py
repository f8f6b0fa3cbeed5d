"""The admin's web application for an ASGI server: `uvicorn nexusadmin.asgi:application`."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "nexusadmin.settings")

application = get_asgi_application()
