"""The route tester's page: which backend would serve a connection, of those that the user may see."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from relay.errors import InvalidValue
from tenants.admin.gate import visible
from tenants.changes.role import ALL_ROLES
from tenants.models import Backend
from tenants.services.access.permissions import sees_all

if TYPE_CHECKING:
    from tenants.services.resolve.answer import Resolution

FIELDS = ("host", "port", "client_ip", "transport")
MOST_DIALLED = 5  # backends, by one press of the button


def resolve_view(request: HttpRequest) -> HttpResponse:
    """Answer what the address asks; a POST also dials the targets, where the user may edit the backend."""
    # Imported here: the rest of the admin, and every command, starts without the relay's parts.
    from tenants.services.resolve.answer import Outcome
    from tenants.services.resolve.question import parse_question
    from tenants.services.resolve.resolve import resolve

    if not visible(request, None, ALL_ROLES):
        raise PermissionDenied
    given = request.POST if request.method == "POST" else request.GET
    asked = {name: str(given.get(name, "")).strip() for name in FIELDS}
    answer, problem = None, ""
    editable: set[int] = set()
    if asked["host"] or asked["port"]:
        user = None if sees_all(request.user) else request.user
        try:
            found = parse_question(
                asked["host"], asked["port"] or "443", asked["client_ip"], asked["transport"] or "tcp"
            )
            answer = resolve(found, user=user)
        except InvalidValue as error:
            problem = f"{str(error)[:1].upper()}{str(error)[1:]}."
    if answer is not None:
        keys = [each.key for each in answer.backends if each.targets and each.verdict is not Outcome.GETS_NOTHING]
        rows: Any = Backend.objects.editable_by(request.user)
        editable = set(rows.filter(pk__in=keys).order_by().values_list("pk", flat=True))
        if request.method == "POST" and "dial" in request.POST:
            _dial(answer, editable)
    context = {
        **admin.site.each_context(request),
        "title": "Who serves it?",
        "asked": asked,
        "answer": answer,
        "problem": problem,
        "can_dial": bool(editable),
    }
    return TemplateResponse(request, "tenants/admin/resolve.html", context)


def _dial(answer: Resolution, editable: set[int]) -> None:
    """Dial the targets of the first backends that the user may edit: it is a look into the relay's network."""
    from tenants.bridge.dial import dial_route

    asked = answer.question
    for each in [each for each in answer.backends if each.key in editable][:MOST_DIALLED]:
        if each.key in answer.configs:
            each.dials = dial_route(answer.configs[each.key], each.targets, asked.port, asked.transport)
