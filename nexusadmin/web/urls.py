"""URL patterns of the web process."""

from django.contrib import admin
from django.http import HttpRequest, HttpResponseNotFound
from django.urls import path
from django.views.generic import RedirectView

from nexusadmin.accounts.views import invitation, login
from nexusadmin.accounts.views.password import change_password
from nexusadmin.accounts.views.second_factor import second_factor_page
from nexusadmin.accounts.views.sessions import sessions_page
from nexusadmin.web.health import healthz


def no_public_page(request: HttpRequest, row: str) -> HttpResponseNotFound:
    """Answer Django's redirect to a row's public page: no row has one, and Django's 404 would tell which rows exist."""
    return HttpResponseNotFound("There is no such page.", content_type="text/plain")


admin.autodiscover()

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index"), name="home"),
    path("healthz", healthz, name="healthz"),
    path("invitations/accept/", invitation.accept_invitation, name="accept_invitation"),
    path("invitations/<str:token>/", invitation.follow_link, name="invitation"),
    path("account/second-factor/", second_factor_page, name="second_factor"),
    path("account/sessions/", sessions_page, name="sessions"),
    path("admin/login/", login.log_in),  # before the admin's own
    path("admin/password_change/", change_password),
    path("admin/login/code/", login.enter_code, name="login_code"),
    path("admin/r/<path:row>", no_public_page),
    path("admin/", admin.site.urls),
]
