"""Addresses of the web side."""

from django.contrib import admin
from django.http import HttpRequest, HttpResponseNotFound
from django.urls import path
from django.views.generic import RedirectView

from nexusadmin.accounts import invitation
from nexusadmin.health import healthz


def no_public_page(request: HttpRequest, row: str) -> HttpResponseNotFound:
    """Answer Django's redirect to a row's public page: no row has one, and Django's 404 would tell which rows exist."""
    return HttpResponseNotFound("There is no such page.", content_type="text/plain")


urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index"), name="home"),
    path("healthz", healthz, name="healthz"),
    path("invitations/accept/", invitation.accept_invitation, name="accept_invitation"),
    path("invitations/<str:token>/", invitation.follow_link, name="invitation"),
    path("admin/r/<path:row>", no_public_page),
    path("admin/", admin.site.urls),
]
