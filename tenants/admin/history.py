"""An object's history: its page of the audit trail, in place of Django's own log."""

from __future__ import annotations

from typing import Any

from django.contrib.admin.utils import unquote
from django.contrib.admin.views.main import PAGE_VAR
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse

from tenants.admin.paging import BoundedPaginator
from tenants.models import AuditEntry
from tenants.services.audit.presentation import summary

ENTRIES = 50  # on one page


class RecordedHistory:
    """History pages from the audit trail; Django's log is not used, as it knows the admin only."""

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        """Do nothing: the trail has it."""

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        """Do nothing: the trail has it."""

    def log_deletions(self, request: HttpRequest, queryset: Any) -> Any:
        """Do nothing: the trail has it."""

    def history_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        """Show the entries of an object that the user may look at, and of the rows below it.

        Members see them too, but not the addresses: those are for users who may read the whole trail.
        """
        page: Any = self
        row = page.get_object(request, unquote(object_id))
        if row is None:
            answer: HttpResponse = page._get_obj_does_not_exist_redirect(request, page.opts, object_id)
            return answer
        if not page.has_view_or_change_permission(request, row):
            raise PermissionDenied
        found = AuditEntry.objects.of_row(row)
        readable = set(AuditEntry.objects.for_user(request.user).of_row(row).values_list("pk", flat=True)[:1])
        paginator = BoundedPaginator(found, ENTRIES)
        part = paginator.get_page(request.GET.get(PAGE_VAR, 1))
        context = {
            **page.admin_site.each_context(request),
            "title": f"History of {row}",
            "rows": [
                {
                    "entry": entry,
                    "summary": summary(entry, request.user),
                    "link": reverse("admin:tenants_auditentry_change", args=[entry.pk]) if readable else "",
                }
                for entry in part
            ],
            "page": part,
            "page_var": PAGE_VAR,
            "readable": bool(readable),
            "object": row,
            "opts": page.opts,
            **(extra_context or {}),
        }
        request.current_app = page.admin_site.name  # type: ignore[attr-defined]
        return TemplateResponse(request, "tenants/admin/history.html", context)
