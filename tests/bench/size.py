"""The admin over a large registry: every list, search, filter and page that the admin has, found by looking.

``BENCH_SQLITE=1`` takes SQLite and 1 000 backends in place of PostgreSQL and 100 000.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator
from statistics import median
from typing import Any, Final

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.contrib.auth import get_user_model
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext, setup_test_environment
from django.urls import reverse

from tenants.models import Backend, Hostname, Membership
from tests.bench.registry_rows import BIG, SMALL, Size, fill

GOAL: Final = 300.0  # milliseconds
FULL, QUICK, ON_SQLITE = Size(10_000, 100_000, 300_000), Size(500, 5_000, 15_000), Size(100, 1_000, 3_000)
ROUNDS: Final = 3
SHOWN: Final = 12  # of the slowest


async def size(on_sqlite: bool) -> dict[str, Any]:
    """Fill a registry and ask for every page; milliseconds at the median, and queries."""
    from asgiref.sync import sync_to_async

    return await sync_to_async(_measure)(on_sqlite)


def _measure(on_sqlite: bool) -> dict[str, Any]:
    setup_test_environment()
    logging.disable(logging.WARNING)
    much = ON_SQLITE if on_sqlite else QUICK if "BENCH_QUICK" in os.environ else FULL
    start = time.monotonic()
    fill(much, lambda what, done: print(f"\r{done:>8} {what:<40}", end="", file=sys.stderr))
    print(file=sys.stderr)
    operator = get_user_model().objects.create(username="operator", is_staff=True, is_superuser=True)
    users = {"operator": operator}
    users |= {
        name: Membership.objects.get(tenant_id=number + 1).user for name, number in (("big", BIG), ("small", SMALL))
    }
    result: dict[str, Any] = {
        "tenants, backends, hostnames": f"{much.tenants}, {much.backends}, {much.hostnames}",
        "filled in, s": round(time.monotonic() - start),
        "database": connection.vendor,
    }
    pages: dict[str, dict[str, Any]] = {}
    for name, user in users.items():
        client = Client()
        client.force_login(user)
        for label, address in addresses(client, name):
            pages[f"{name}: {label}"] = _ask(client, address)
            print(f"\r{len(pages):>5} pages {name}: {label:<70.70}", end="", file=sys.stderr)
    print(file=sys.stderr)
    slow = sorted(pages, key=lambda label: -pages[label]["ms"])
    result["pages asked for"] = len(pages)
    result[f"pages over {GOAL:g} ms"] = sum(page["ms"] > GOAL for page in pages.values())
    result[f"requests over {GOAL:g} ms"] = sum(page["over"] for page in pages.values())
    result["median of all, ms"] = median(page["ms"] for page in pages.values())
    result["most queries"] = max(page["queries"] for page in pages.values())
    result["slowest"] = {label: f"{pages[label]['ms']} ms, {pages[label]['queries']} queries" for label in slow[:SHOWN]}
    failed = [label for label, page in pages.items() if page["status"] not in (200, 302, 403)]
    result["answers that are errors"] = ", ".join(failed) or 0
    result["redirections"] = ", ".join(label for label, page in pages.items() if page["status"] == 302) or 0
    result["all"] = {label: f"{page['ms']} ms, {page['queries']} queries" for label, page in pages.items()}
    return result


def _ask(client: Client, address: str) -> dict[str, Any]:
    connection.queries_log.clear()  # it holds 9 000 at most, and what goes over is not counted
    with CaptureQueriesContext(connection) as queries:
        status = client.get(address).status_code  # fills caches too
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        client.get(address)
        times.append(time.perf_counter() - start)
    if "BENCH_SQL" in os.environ and median(times) * 1000 > GOAL:
        for query in sorted(queries.captured_queries, key=lambda each: -float(each["time"]))[:3]:
            print(f"\n{address}\n  {query['time']} s: {query['sql'][:1500]}", file=sys.stderr)
    over = sum(each * 1000 > GOAL for each in times)
    return {"ms": round(median(times) * 1000, 1), "queries": len(queries), "status": status, "over": over}


def addresses(client: Client, user: str) -> Iterator[tuple[str, str]]:
    """Yield every page that the user may open, with a name for it."""
    yield "overview", reverse("admin:index")
    for model, model_admin in admin.site._registry.items():
        name = f"{model._meta.app_label}_{model._meta.model_name}"
        address = reverse(f"admin:{name}_changelist")
        first = client.get(address)
        if first.status_code != 200:
            continue
        kind = str(model._meta.verbose_name_plural)
        changelist = first.context["cl"]
        yield f"{kind}: list", address
        last = changelist.paginator.num_pages
        yield f"{kind}: middle page", f"{address}?p={(last + 1) // 2}"
        yield f"{kind}: last page", f"{address}?p={last}"
        for number, column in enumerate(model_admin.list_display, start=1):
            if column not in (model_admin.list_display if model_admin.sortable_by is None else model_admin.sortable_by):
                continue
            yield f"{kind}: by {column}", f"{address}?o={number}"
            yield f"{kind}: by {column}, reversed", f"{address}?o=-{number}"
        if model_admin.search_fields:
            for word in ("shop-0004", "example", "no-such-thing-anywhere", "a", "user-00001"):
                yield f"{kind}: search {word!r}", f"{address}?q={word}"
        yield from _filtered(changelist, kind, address)
        rows: Any = model._default_manager
        seen = rows.for_user(_user(client)) if hasattr(rows, "for_user") else rows.all()
        for row in seen.order_by("pk")[:1]:
            for action in ("change", "delete", "history"):
                yield f"{kind}: {action}", reverse(f"admin:{name}_{action}", args=[row.pk])
        yield f"{kind}: add", reverse(f"admin:{name}_add")
    for model, field in ((Backend, "tenant"), (Hostname, "tenant"), (Membership, "user")):
        query = f"app_label=tenants&model_name={model._meta.model_name}&field_name={field}"
        for term in ("", "shop", "00042", "no-such-thing"):
            yield (
                f"choices of {model.__name__}.{field}, {term!r}",
                f"{reverse('admin:autocomplete')}?{query}&term={term}",
            )
    if user == "operator":
        for number, what in ((BIG, "big"), (SMALL, "small")):
            yield f"tenant {what}: change", reverse("admin:tenants_tenant_change", args=[number + 1])
            yield f"tenant {what}: delete", reverse("admin:tenants_tenant_delete", args=[number + 1])
            yield f"backends of tenant {what}", f"{reverse('admin:tenants_backend_changelist')}?tenant={number + 1}"


def _filtered(changelist: ChangeList, kind: str, address: str) -> Iterator[tuple[str, str]]:
    """Yield the first choices of each filter of a list."""
    for spec in changelist.filter_specs:
        names = spec.expected_parameters()
        choices = list(getattr(spec, "lookup_choices", ()))[:3]
        for value, *_ in choices:
            yield f"{kind}: {names[0]}={value}", f"{address}?{names[0]}={value}"
        if not choices:
            yield f"{kind}: {names[0]}=1", f"{address}?{names[0]}=1"


def _user(client: Client) -> Any:
    return get_user_model().objects.get(pk=client.session["_auth_user_id"])
