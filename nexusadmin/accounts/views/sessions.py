"""The page on which a user sees where the account is logged in, and ends sessions."""

from __future__ import annotations

from django.contrib import admin, messages
from django.contrib.auth import logout
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from nexusadmin.accounts.services import login_sessions
from nexusadmin.accounts.views.pages import show


@require_http_methods(["GET", "HEAD", "POST"])
def manage(request: HttpRequest) -> HttpResponse:
    """Show the user's sessions, and end one or all others."""
    own = login_sessions.key_of(request)
    if request.method == "POST":
        if request.POST.get("end") == own:
            logout(request)
            return HttpResponseRedirect(reverse("admin:login"))
        chosen = [key for key in request.POST.getlist("end") if "\0" not in key]  # PostgreSQL would fail at one
        keys = None if "others" in request.POST else chosen
        ended = login_sessions.end(request.user, keys, but=own)
        messages.success(request, f"{ended} session{'' if ended == 1 else 's'} ended.")
        return HttpResponseRedirect(reverse("sessions"))
    rows = [(row, row.pk == own) for row in login_sessions.live(request.user)]
    return show(request, "sessions", "Sessions", rows=rows)


sessions_page = admin.site.admin_view(manage)
