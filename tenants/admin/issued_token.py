"""Issue of a token from a backend's page: put beside the stored one or in its place unseen, or shown once."""

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
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget, UnfoldBooleanSwitchWidget

from tenants.admin.gate import allowed
from tenants.changes.role import OWNERS
from tenants.services.tokens import issue
from tenants.services.tokens.issue import CanNotIssue

NEXT, INSTALL, SHOW = "next", "install", "show"
PUT = {NEXT: issue.install_next, INSTALL: issue.install}


class IssueForm(forms.Form):
    """Form for the token's validity, and where it goes."""

    lifetime = forms.CharField(
        max_length=12, initial="30d", widget=UnfoldAdminTextInputWidget, help_text="As in 12h, 90d, or in seconds."
    )
    way = forms.ChoiceField(
        label="What becomes of it",
        choices=(
            (NEXT, "put it beside the stored token as the next one, unseen"),
            (INSTALL, "put it in place as this backend's credential at once, unseen"),
            (SHOW, "show it once, for a client elsewhere"),
        ),
        widget=UnfoldAdminSelectWidget,
        help_text="As the next one it is shown to the nodes at once, and takes the stored one's place when a node has "
        "taken it; until then the stored one is there to go back to. At once leaves nothing to go back to.",
    )
    sure = forms.BooleanField(
        label="Put it in place although nodes may refuse it",
        required=False,
        widget=UnfoldBooleanSwitchWidget,
    )

    def __init__(self, backend: Any, data: Any = None) -> None:
        super().__init__(data)
        self.no_next, self.doubts = issue.refuses_next(backend), issue.doubts(backend)
        self.fields["sure"].help_text = self.doubts
        if not self.doubts:
            del self.fields["sure"]
        if self.no_next:
            field: Any = self.fields["way"]
            field.choices = [choice for choice in field.choices if choice[0] != NEXT]
            field.help_text = self.no_next
            self.initial["way"] = SHOW if self.doubts else INSTALL

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if cleaned.get("way") == INSTALL and self.doubts and not cleaned.get("sure"):
            self.add_error("sure", f"{self.doubts} Switch this on to put it in place all the same.")
        return cleaned

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
        form = IssueForm(backend, request.POST if request.method == "POST" else None)
        issued = None
        if form.is_valid():
            try:
                with self.writing(request):
                    issued = issue.issue(backend, ttl=form.cleaned_data["lifetime"])
                    if form.cleaned_data["way"] in PUT:
                        PUT[form.cleaned_data["way"]](backend, issued)
            except CanNotIssue as error:
                form.add_error(None, str(error))
            except ValidationError as error:
                form.add_error(None, " ".join(error.messages))
            else:
                if form.cleaned_data["way"] in PUT:
                    until = issue.rfc3339(issued.expires_at)
                    where = (
                        "beside the stored one: its nodes are asked" if form.cleaned_data["way"] == NEXT else "in place"
                    )
                    self.message_user(
                        request, f"A token is {where}, id {issued.token_id}, valid until {until}.", messages.SUCCESS
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
