"""Permissions for users and groups in the admin."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest

from tenants.admin.base import all_seeing, operator_only
from tenants.admin.search import bounded


class OperatorsOnly:
    """Only operators edit and only auditors look too, whatever Django's permissions say."""

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows: QuerySet[Any] = super().get_queryset(request)  # type: ignore[misc]
        return rows if all_seeing(request) else rows.none()

    def get_search_results(self, request: HttpRequest, queryset: QuerySet[Any], search_term: str) -> Any:
        return super().get_search_results(request, queryset, bounded(search_term))  # type: ignore[misc]

    def has_module_permission(self, request: HttpRequest) -> bool:
        return all_seeing(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return all_seeing(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return operator_only(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return operator_only(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return operator_only(request)
