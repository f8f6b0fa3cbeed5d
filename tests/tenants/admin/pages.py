"""Users, rows and pages for the admin's tests."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from typing import Any

from django.contrib.auth import get_user_model
from django.db import connection
from django.test import TestCase
from django.urls import reverse

from tenants.changes import generations
from tenants.models import Backend, Domain, Membership, NexusNode, Role, Tenant
from tests.support.registry import make_domain, make_node, make_served_backend, make_tenant

SECRET = "a-secret-that-is-never-to-be-seen-anywhere"


def make_user(name: str, **roles: Any) -> Any:
    """Save a user who may log in, with a role by tenant slug."""
    user = get_user_model().objects.create(username=name, is_staff=True)
    for slug, role in roles.items():
        Membership.objects.create(user=user, tenant=Tenant.objects.get(slug=slug), role=role)
    return user


def make_operator(name: str = "operator") -> Any:
    """Save a superuser."""
    return get_user_model().objects.create(username=name, is_staff=True, is_superuser=True)


def page(action: str, row: Any) -> str:
    """Return the address of a row's page, or of a model's list or add page."""
    name = f"admin:{row._meta.app_label}_{row._meta.model_name}_{action}"
    return reverse(name) if action in ("changelist", "add") else reverse(name, args=[row.pk])


class _Fields(HTMLParser):
    """Collects what a browser would post of a page's main form."""

    def __init__(self) -> None:
        super().__init__()
        self.values: dict[str, Any] = {}
        self._select: str | None = None
        self._area: str | None = None
        self._inside = self._chosen = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        name = given.get("name")
        if tag == "form":
            self._inside = (given.get("id") or "").endswith("_form")
        if not self._inside:
            return
        if tag == "input" and name:
            kind = given.get("type") or "text"
            if kind in ("checkbox", "radio"):
                if "checked" in given:
                    self.values[name] = given.get("value") or "on"
            elif kind not in ("submit", "button"):
                self.values[name] = given.get("value") or ""
        elif tag == "select" and name:
            self._select, self._chosen = name, False
            self.values.setdefault(name, "")
        elif tag == "option" and self._select and ("selected" in given or not self._chosen):
            # Browsers choose the first option where none is selected.
            self._chosen = True
            self.values[self._select] = given.get("value") or ""
        elif tag == "textarea" and name:
            self._area = name
            self.values[name] = ""

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._inside = False
        elif tag == "select":
            self._select = None
        elif tag == "textarea":
            self._area = None

    def handle_data(self, data: str) -> None:
        if self._area:
            self.values[self._area] += data.removeprefix("\n")


def fields_of(response: Any) -> dict[str, Any]:
    """Return what a browser would post when the user presses Save at once."""
    parser = _Fields()
    parser.feed(response.content.decode())
    parser.values.pop("csrfmiddlewaretoken", None)
    return parser.values


def errors_of(response: Any) -> dict[str, list[str]]:
    """Return the errors of a page that was shown again, by the name of the form's field."""
    found: dict[str, list[str]] = {}

    def collect(form: Any) -> None:
        for name, messages in form.errors.items():
            found[form.add_prefix(name)] = [str(message) for message in messages]
        for nested in getattr(form, "nested_formsets", ()):
            for each in nested.formset.forms:
                collect(each)

    collect(response.context["adminform"].form)
    for inline in response.context["inline_admin_formsets"]:
        for form in inline.formset.forms:
            collect(form)
    return found


class AdminTestCase(TestCase):
    """Two tenants with a backend each, their users and an operator."""

    acme: Tenant
    other: Tenant
    node: NexusNode
    domain: Domain
    backend: Backend
    foreign: Backend
    operator: Any
    owner: Any
    editor: Any
    viewer: Any
    stranger: Any
    nobody: Any

    @classmethod
    def setUpTestData(cls) -> None:
        cls.acme, cls.other = (
            make_tenant(slug="acme", public_ports="53"),
            make_tenant(slug="other", name="Other Company"),
        )
        cls.node = make_node()
        cls.domain = make_domain(cls.acme, "example.com")
        cls.backend = make_served_backend(cls.acme, "app.example.com", name="edge")
        cls.foreign = make_served_backend(cls.other, "secluded.example.net", name="secluded-backend")
        for backend in (cls.backend, cls.foreign):
            backend.credential.secret = SECRET
            backend.credential.save()
        cls.operator = make_operator()
        cls.owner = make_user("owner", acme=Role.OWNER)
        cls.editor = make_user("editor", acme=Role.EDITOR)
        cls.viewer = make_user("viewer", acme=Role.VIEWER)
        cls.stranger = make_user("stranger", other=Role.OWNER)
        cls.nobody = make_user("nobody")

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        # Refusals are what these tests ask for; the log need not tell of each.
        log = logging.getLogger("django.request")
        level = log.level
        log.setLevel(logging.CRITICAL)
        cls.addClassCleanup(log.setLevel, level)

    def open(self, backend: Backend) -> dict[str, Any]:
        """Return what the backend's page would post."""
        response = self.client.get(page("change", backend))
        self.assertEqual(response.status_code, 200)
        return fields_of(response)

    def save(self, backend: Backend, **changes: Any) -> Any:
        """Open the backend's page, change some fields, save, and return the answer."""
        return self.client.post(page("change", backend), {**self.open(backend), **changes})

    @contextmanager
    def announcements(self) -> Iterator[list[Any]]:
        """Give a list that holds, at the end, what the block will announce after its commit."""
        connection.run_on_commit.clear()  # what the rows of this test case announced
        found: list[Any] = []
        with self.captureOnCommitCallbacks() as callbacks:
            yield found
        found += [each for each in callbacks if isinstance(each, generations._Announcement)]

    def assertSaved(self, response: Any) -> None:
        """Fail with the page's errors where it was not saved."""
        if response.status_code == 200:
            self.fail(f"not saved: {errors_of(response)}")
        self.assertEqual(response.status_code, 302)
