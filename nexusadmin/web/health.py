"""`/healthz`: can this process serve the admin?"""

from django.db import DatabaseError, connection
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache


@never_cache
def healthz(request: HttpRequest) -> JsonResponse:
    """Answer 200 where the database answers, else 503; no details, since anyone may ask."""
    try:
        with connection.cursor() as cursor:
            # Of a table: where its file is gone, SQLite answers from an empty one that it has just made.
            cursor.execute("SELECT 1 FROM django_migrations LIMIT 1")
            cursor.fetchone()
    except DatabaseError:
        return JsonResponse({"status": "error", "database": "unreachable"}, status=503)
    return JsonResponse({"status": "ok"})
