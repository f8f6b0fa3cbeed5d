"""What these pages have in common: the admin's looks, and nothing kept by caches."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.template.response import TemplateResponse


def show(request: HttpRequest, template: str, title: str, *, status: int = 200, **context: Any) -> TemplateResponse:
    """Return a page in the admin's looks."""
    shown = {**admin.site.each_context(request), "title": title, **context}
    return TemplateResponse(request, f"accounts/{template}.html", shown, status=status)
