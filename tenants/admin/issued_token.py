"""Issue of a token from a backend's page: put in place unseen, or shown once."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.views.decorators.debug import sensitive_variables
from unfold.decorators import action
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from tenants.admin.gate import allowed
from tenants.changes.role import OWNERS
from tenants.services.tokens import issue
from tenants.services.tokens.issue import CanNotIssue

INSTALL, SHOW = "install", "show"


class IssueForm(forms.Form):
    """Form for the token's validity, and where it goes."""

    lifetime = forms.CharField(
        max_length=12, initial="30d", widget=UnfoldAdminTextInputWidget, help_text="As in 12h, 90d, or in seconds."
    )
    way = forms.ChoiceField(
        label="What becomes of it",
        choices=(
            (INSTALL, "put it in place as this backend's credential, unseen"),
            (SHOW, "show it once, for a client elsewhere"),
        ),
        widget=UnfoldAdminSelectWidget,
    )

    def clean_lifetime(self) -> int:
        return issue.seconds(self.cleaned_data["lifetime"])


class IssuesTokens:
    """The part of a backend's admin class that issues tokens; for owners, who answer for what is signed."""

    def has_issue_token_permission(self: Any, request: HttpRequest, object_id: Any = None) -> bool:
        backend = self.get_object(request, str(object_id)) if object_id is not None else None
        return backend is not None and allowed(request, backend, OWNERS)

    @action(description="Issue a token", url_path="issue-token", permissions=["issue_token"])
    def issue_token(self: Any, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask how, and issue it."""
        backend = self.get_object(request, object_id)
        form = IssueForm(request.POST if request.method == "POST" else None)
        issued = None
        if form.is_valid():
            try:
                with self.writing(request):
                    issued = issue.issue(backend, ttl=form.cleaned_data["lifetime"])
                    if form.cleaned_data["way"] == INSTALL:
                        issue.install(backend, issued)
            except CanNotIssue as error:
                form.add_error(None, str(error))
            except ValidationError as error:
                form.add_error(None, " ".join(error.messages))
            else:
                if form.cleaned_data["way"] == INSTALL:
                    until = issue.rfc3339(issued.expires_at)
                    self.message_user(
                        request, f"A token is in place, id {issued.token_id}, valid until {until}.", messages.SUCCESS
                    )
                    return HttpResponseRedirect(reverse("admin:tenants_backend_change", args=[backend.pk]))
        return _page(self, request, backend, form, issued)


@sensitive_variables("issued")
def _page(model_admin: Any, request: HttpRequest, backend: Any, form: Any, issued: Any) -> HttpResponse:
    context = {
        **model_admin.admin_site.each_context(request),
        "title": f"Issue a token for {backend}",
        "opts": model_admin.opts,
        "form": form,
        "issued": issued,
        "back": reverse("admin:tenants_backend_change", args=[backend.pk]),
    }
    response = TemplateResponse(request, "tenants/admin/issue_token.html", context)
    response.headers["Cache-Control"] = "no-store"
    return response
