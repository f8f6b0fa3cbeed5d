"""Middleware of web requests."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.utils.functional import SimpleLazyObject

from tenants.changes.actor import ADMIN, acting
from tenants.changes.visibility import kept


class ActingMiddleware:
    """Names the request's user and address as the actor, and keeps what the user sees until the request ends.

    It belongs behind the middleware that sets ``request.user``.

    The address is the connection's. Behind a proxy, uvicorn has put there what that proxy says of its
    client, if it is one of FORWARDED_ALLOW_IPS; a header of the client's own making is never looked at here.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        # Lazy, since most requests record nothing, and since a log-in changes it.
        user = SimpleLazyObject(lambda: request.user)
        with acting(user=user, origin=ADMIN, address=request.META.get("REMOTE_ADDR", "")), kept() as sights:
            request.sights = sights  # type: ignore[attr-defined]
            return self.get_response(request)
