"""Helpers of the account pages: the admin's looks, and the links of the user menu."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.urls import reverse


def account_links(request: HttpRequest) -> list[dict[str, str]]:
    """Return the links of the menu below the user's name."""
    pages = {"Change password": "admin:password_change", "Second factor": "second_factor", "Sessions": "sessions"}
    return [{"title": title, "link": reverse(name)} for title, name in pages.items()]


def show(request: HttpRequest, template: str, title: str, *, status: int = 200, **context: Any) -> TemplateResponse:
    """Return a page in the admin's looks."""
    shown = {**admin.site.each_context(request), "title": title, **context}
    return TemplateResponse(request, f"accounts/{template}.html", shown, status=status)
