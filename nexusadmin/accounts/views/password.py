"""Change of one's own password. A wrong old one counts as a failed log-in: a stolen session could try them all."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.auth import authenticate
from django.contrib.auth.views import PasswordChangeView
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.views.decorators.debug import sensitive_variables
from unfold.forms import AdminOwnPasswordChangeForm


class OwnPasswordForm(AdminOwnPasswordChangeForm):
    """The admin's form; a wrong old password is counted."""

    def __init__(self, user: Any, *args: Any, request: HttpRequest, **kwargs: Any) -> None:
        super().__init__(user, *args, **kwargs)
        self.request = request

    @sensitive_variables("password")
    def clean_old_password(self) -> str:
        password: str = self.cleaned_data["old_password"]
        if authenticate(self.request, username=self.user.get_username(), password=password) is None:
            raise ValidationError(self.error_messages["password_incorrect"], code="password_incorrect")
        return password


class OwnPassword(PasswordChangeView):
    """The admin's page."""

    form_class = OwnPasswordForm

    def get_form_kwargs(self) -> dict[str, Any]:
        return {**super().get_form_kwargs(), "request": self.request}


def change(request: HttpRequest) -> HttpResponseBase:
    """Ask for the old password and the new one, as the admin does."""
    done = reverse("admin:password_change_done")
    return OwnPassword.as_view(success_url=done, extra_context=admin.site.each_context(request))(request)


change_password = admin.site.admin_view(change)
