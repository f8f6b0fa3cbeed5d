"""Log-in: the password, then the code if the user has a second factor."""

from __future__ import annotations

import time
from typing import Any, Final

from django import forms
from django.conf import settings
from django.contrib import admin
from django.contrib.auth import REDIRECT_FIELD_NAME, get_user_model, login
from django.contrib.auth.views import LoginView
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.utils.crypto import constant_time_compare
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods
from django_otp import login as otp_login
from unfold.forms import AuthenticationForm
from unfold.widgets import UnfoldAdminTextInputWidget

from nexusadmin.accounts.services import login_throttle, second_factor
from nexusadmin.accounts.views.pages import show

WAITING: Final = "waiting-for-code"  # in the session: whose password was right
CODE_TIMEOUT: Final = 300.0  # seconds between password and code
BACKEND: Final = "django.contrib.auth.backends.ModelBackend"


class CodeWidget(UnfoldAdminTextInputWidget):
    """An input that shows no code again."""

    def format_value(self, value: Any) -> None:
        return None


class CodeForm(forms.Form):
    """A code of the authenticator app, or a recovery code."""

    code = forms.CharField(
        max_length=40,
        widget=CodeWidget({"autocomplete": "one-time-code", "autocapitalize": "none", "spellcheck": "false"}),
        help_text="The six digits that your authenticator app shows, or one of your recovery codes.",
    )


class PasswordStep(LoginView):
    """The first step; it logs in only users without a second factor."""

    authentication_form = AuthenticationForm
    template_name = "admin/login.html"

    def form_valid(self, form: Any) -> HttpResponse:
        user = form.get_user()
        if not second_factor.is_on(user):
            return super().form_valid(form)
        session = self.request.session
        session.cycle_key()
        session[WAITING] = {
            "user": user.pk,
            "hash": user.get_session_auth_hash(),
            "at": time.time(),
            "next": self.get_success_url(),
        }
        return HttpResponseRedirect(reverse("login_code"))


@never_cache
def log_in(request: HttpRequest) -> HttpResponseBase:
    """Ask for user name and password, as the admin does."""
    if request.method == "GET" and admin.site.has_permission(request):
        return HttpResponseRedirect(reverse("admin:index"))
    context: dict[str, Any] = {
        **admin.site.each_context(request),
        "title": "Log in",
        "subtitle": None,
        "app_path": request.get_full_path(),
        "username": request.user.get_username(),
    }
    if REDIRECT_FIELD_NAME not in request.GET and REDIRECT_FIELD_NAME not in request.POST:
        context[REDIRECT_FIELD_NAME] = reverse("admin:index")
    return PasswordStep.as_view(extra_context=context)(request)


@never_cache
@sensitive_post_parameters()
@require_http_methods(["GET", "HEAD", "POST"])
def enter_code(request: HttpRequest) -> HttpResponse:
    """Ask a user who has just given the right password for the code, and log in."""
    waiting = request.session.get(WAITING, {})
    user = _waiting_user(waiting)
    if user is None:
        request.session.pop(WAITING, None)
        return HttpResponseRedirect(reverse("admin:login"))
    form = CodeForm(request.POST if request.method == "POST" else None)
    if form.is_valid() and login_throttle.may_try(request, user):
        device = second_factor.verify(user, form.cleaned_data["code"])
        if device is not None:
            del request.session[WAITING]
            login(request, user, backend=BACKEND)
            otp_login(request, device)
            return HttpResponseRedirect(_safe(request, waiting["next"]))
        login_throttle.failed(request, user)
    elif form.is_valid():
        return locked_out(request)
    if request.method == "POST":
        form.add_error("code", "This code is wrong or was used, or came too soon after a wrong one. Wait for the next.")
    return show(request, "code", "Second step", form=form)


def _waiting_user(waiting: dict[str, Any]) -> Any:
    if not waiting or not 0 <= time.time() - waiting["at"] < CODE_TIMEOUT:
        return None
    user: Any = get_user_model()._default_manager.filter(pk=waiting["user"], is_active=True, is_staff=True).first()
    if user is None or not constant_time_compare(user.get_session_auth_hash(), waiting["hash"]):
        return None
    return user


def _safe(request: HttpRequest, address: str) -> str:
    hosts = {request.get_host()}
    if url_has_allowed_host_and_scheme(address, allowed_hosts=hosts, require_https=request.is_secure()):
        return address
    return reverse("admin:index")


def locked_out(request: HttpRequest, original: Any = None, credentials: Any = None) -> HttpResponse:
    """Say that there were too many failed log-ins, in the same words whether or not the name exists."""
    minutes = int(settings.AXES_COOLOFF_TIME.total_seconds() // 60)
    response = show(request, "locked_out", "Log in", status=429, minutes=minutes)
    response["Retry-After"] = str(minutes * 60)
    response["Cache-Control"] = "no-store"
    return response.render()
