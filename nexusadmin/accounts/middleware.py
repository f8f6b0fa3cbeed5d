"""Middleware for log-in sessions and the second factor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib.auth import logout
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from nexusadmin.accounts.services import login_sessions, second_factor

GetResponse = Callable[[HttpRequest], HttpResponse]


class SessionUseMiddleware:
    """Keeps a session alive while it is used. A request whose user is not asked for costs nothing."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if request.session.accessed:
            login_sessions.note_use(request)
        return response


class SecondFactorMiddleware:
    """Sends users who lack a second factor that they must have to the page that sets one up, and to no other."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.refusal(request) or self.get_response(request)

    def refusal(self, request: HttpRequest) -> HttpResponse | None:
        """Return a redirect; None where the request may go on."""
        user: Any = request.user
        if request.path == reverse("healthz") or not user.is_authenticated:
            return None
        if second_factor.may_enter(user, user.is_verified()):
            return None
        if second_factor.is_on(user):  # a session from before it was required
            logout(request)
            return HttpResponseRedirect(reverse("admin:login"))
        page = reverse("second_factor")
        if request.path in (page, reverse("admin:logout")):
            return None
        return HttpResponseRedirect(page)
