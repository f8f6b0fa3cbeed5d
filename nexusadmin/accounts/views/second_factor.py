"""The page on which a user sets the second factor up, gets recovery codes, and switches it off."""

from __future__ import annotations

from typing import Any

import segno
from django import forms
from django.contrib import admin, messages
from django.contrib.auth import authenticate
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.safestring import SafeString, mark_safe
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_http_methods
from django_otp import login as otp_login
from unfold.widgets import UnfoldAdminPasswordWidget

from nexusadmin.accounts.models import TotpDevice
from nexusadmin.accounts.services import login_sessions, login_throttle, second_factor
from nexusadmin.accounts.views.login import CodeForm, locked_out
from nexusadmin.accounts.views.pages import show

WRONG_CODE = "This code is wrong or was used, or came too soon after a wrong one. Wait for the next."


class FirstCodeForm(CodeForm):
    """The first code of a new app."""

    def __init__(self, data: Any = None) -> None:
        super().__init__(data)
        self.fields["code"].help_text = "The six digits that the app shows now."


class PasswordForm(forms.Form):
    """The user's password, so that no unattended browser does this."""

    password = forms.CharField(
        strip=False, widget=UnfoldAdminPasswordWidget({"autocomplete": "current-password"}), label="Your password"
    )

    def __init__(self, request: HttpRequest, data: Any = None) -> None:
        super().__init__(data)
        self.request = request

    @sensitive_variables("password")
    def clean_password(self) -> str:
        password: str = self.cleaned_data["password"]
        name = self.request.user.get_username()
        if authenticate(self.request, username=name, password=password) is None:  # counted as a log-in that failed
            raise ValidationError("This is not your password.")
        return password


class PasswordAndCodeForm(CodeForm, PasswordForm):
    """The password and a code."""

    field_order = ("password", "code")

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if {"password", "code"} - set(cleaned) or second_factor.verify(self.request.user, cleaned["code"]):
            return cleaned
        login_throttle.failed(self.request, self.request.user)
        self.add_error("code", WRONG_CODE)
        return cleaned


@sensitive_post_parameters()
@sensitive_variables()
@require_http_methods(["GET", "HEAD", "POST"])
def manage(request: HttpRequest) -> HttpResponse:
    """Show whether the second factor is on, and do what was asked."""
    doing = request.POST.get("do", "")
    if request.method == "POST" and not login_throttle.may_try(request, request.user):
        return locked_out(request)
    if not second_factor.is_on(request.user):
        if doing == "begin":
            return _begin(request)
        if doing == "confirm":
            return _confirm(request)
        return _off_page(request, PasswordForm(request))
    if doing in ("codes", "off"):
        form = PasswordAndCodeForm(request, request.POST)
        if not form.is_valid():
            return _on_page(request, form)
        if doing == "codes":
            return _codes_page(request)
        second_factor.switch_off(request.user)
        messages.success(request, "The second factor is off.")
        return HttpResponseRedirect(reverse("second_factor"))
    return _on_page(request, PasswordAndCodeForm(request))


second_factor_page = admin.site.admin_view(manage)


def _begin(request: HttpRequest) -> HttpResponse:
    form = PasswordForm(request, request.POST)
    if not form.is_valid():
        return _off_page(request, form)
    device = second_factor.begin(request.user)
    secret = device.secret
    groups = " ".join(secret[start : start + 4] for start in range(0, len(secret), 4))
    return show(
        request,
        "second_factor_begin",
        "Second factor",
        qr=_qr(device),
        secret=groups,
        form=FirstCodeForm(),
        is_new=True,
    )


def _confirm(request: HttpRequest) -> HttpResponse:
    form = FirstCodeForm(request.POST)
    device = second_factor.confirm(request.user, form.cleaned_data["code"]) if form.is_valid() else None
    if device is None:
        form.add_error("code", WRONG_CODE)
        return show(request, "second_factor_begin", "Second factor", form=form, is_new=False)
    otp_login(request, device)
    request.session.cycle_key()
    login_sessions.end(request.user, but=login_sessions.key_of(request))  # they were begun without it
    return _codes_page(request)


def _codes_page(request: HttpRequest) -> HttpResponse:
    codes = second_factor.make_recovery_codes(request.user)
    return show(request, "recovery_codes", "Recovery codes", codes=codes)


def _off_page(request: HttpRequest, form: forms.Form) -> HttpResponse:
    required = second_factor.is_required(request.user)
    return show(request, "second_factor_off", "Second factor", form=form, required=required)


def _on_page(request: HttpRequest, form: forms.Form) -> HttpResponse:
    left = second_factor.codes_left(request.user)
    required = second_factor.is_required(request.user)
    return show(request, "second_factor_on", "Second factor", form=form, left=left, required=required)


def _qr(device: TotpDevice) -> SafeString:
    """Return the QR code as SVG elements in the page: no picture of it is stored or fetched."""
    code = segno.make(device.address(), error="m")
    return mark_safe(code.svg_inline(scale=4, border=4, dark="#000", light="#fff", omitsize=False))  # noqa: S308
