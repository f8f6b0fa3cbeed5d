"""The database of the running tests, as an address for another process."""

from __future__ import annotations

from urllib.parse import quote

from django.db import DEFAULT_DB_ALIAS, connections


def database_url(alias: str = DEFAULT_DB_ALIAS) -> str:
    """Return the DATABASE_URL of the database that `alias` uses now (the test database, inside tests)."""
    settings = connections[alias].settings_dict
    if settings["ENGINE"].endswith("sqlite3"):
        return f"sqlite:///{settings['NAME']}"
    user = quote(settings.get("USER") or "", safe="")
    password = quote(settings.get("PASSWORD") or "", safe="")
    host = settings.get("HOST") or ""
    port = settings.get("PORT")
    credentials = f"{user}:{password}@" if password else f"{user}@" if user else ""
    if host.startswith("/"):  # a Unix socket's directory stands in the path
        return f"postgres://{credentials}/{host}/{quote(str(settings['NAME']), safe='')}"
    return f"postgres://{credentials}{host}{f':{port}' if port else ''}/{quote(str(settings['NAME']), safe='')}"
