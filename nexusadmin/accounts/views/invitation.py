"""The page that an invitation's link leads to: log in, or make an account, and join."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.auth import get_user_model, login
from django.contrib.auth.forms import SetPasswordForm
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods
from unfold.widgets import UnfoldAdminPasswordWidget

from nexusadmin.accounts.views.pages import show
from tenants.changes.actor import acting
from tenants.models import Invitation
from tenants.services import invitations
from tenants.services.invitations import InvitationGone

BACKEND = "django.contrib.auth.backends.ModelBackend"
KEY = "invitation"  # in the session: the token's hash


class AccountForm(SetPasswordForm):
    """A password for a new account. Its name is the invited address: choosing one would tell which are taken."""

    new_password1 = forms.CharField(
        label="Password", strip=False, widget=UnfoldAdminPasswordWidget({"autocomplete": "new-password"})
    )
    new_password2 = forms.CharField(
        label="Password, again", strip=False, widget=UnfoldAdminPasswordWidget({"autocomplete": "new-password"})
    )


@never_cache
@require_http_methods(["GET", "HEAD"])
def follow_link(request: HttpRequest, token: str) -> HttpResponse:
    """Take the token out of the address, so that no Referer, history or bookmark of the next page holds it."""
    try:
        request.session[KEY] = invitations.find(invitations.token_hash(token)).token_hash
    except InvitationGone:  # nothing stored: strangers could fill the table of sessions
        request.session.pop(KEY, None)
    response = HttpResponseRedirect(reverse("accept_invitation"))
    response["Referrer-Policy"] = "no-referrer"
    return response


@never_cache
@sensitive_post_parameters()
@require_http_methods(["GET", "HEAD", "POST"])
def accept_invitation(request: HttpRequest) -> HttpResponse:
    """Show the invitation, and make the user who accepts a member."""
    try:
        invitation = invitations.find(request.session.get(KEY, ""))
        if request.user.is_authenticated:
            return _join(request, invitation)
        return _make_account(request, invitation)
    except InvitationGone:
        return show(request, "invitation_gone", "Invitation", status=404)


def _join(request: HttpRequest, invitation: Invitation) -> HttpResponse:
    error = ""
    if request.method == "POST":
        try:
            invitations.accept(invitation.token_hash, request.user)
            return _done(request)
        except ValidationError as refused:
            error = " ".join(refused.messages)
    return show(request, "invitation_join", "Invitation", invitation=invitation, error=error)


def _make_account(request: HttpRequest, invitation: Invitation) -> HttpResponse:
    users = get_user_model()._default_manager
    known = users.filter(username__iexact=invitation.email).exists()
    user: Any = get_user_model()(username=invitation.email, email=invitation.email, is_staff=True)
    form = AccountForm(user, request.POST if request.method == "POST" and not known else None)
    if form.is_valid():
        try:
            with transaction.atomic(), acting(user=user):
                form.save()
                invitations.accept(invitation.token_hash, user)
        except IntegrityError:  # another browser with the same link was faster
            raise InvitationGone from None
        login(request, user, backend=BACKEND)
        return _done(request)
    return show(request, "invitation_account", "Invitation", invitation=invitation, form=form, known=known)


def _done(request: HttpRequest) -> HttpResponse:
    request.session.pop(KEY, None)
    return HttpResponseRedirect(reverse("admin:index"))
