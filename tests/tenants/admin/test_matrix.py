"""Who may do what: every kind of user, every admin class, every operation."""

from __future__ import annotations

import sys
from typing import Any

from django.apps import apps
from django.contrib import admin
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.db import models, transaction
from django.test import Client
from django.urls import reverse

from tenants.models import (
    HostnameGrant,
    Invitation,
    Membership,
    PortMapping,
    Revocation,
    Site,
    SiteRole,
    TenantKey,
)
from tests.tenants.admin.pages import AdminTestCase, fields_of, make_user, page

USERS = ("operator", "auditor", "owner", "editor", "viewer", "foreign owner", "nobody", "inactive", "anonymous")

# L list, A add, V view a row of acme's, C change it, D delete it, H its history, S actions on lists, X it is a choice.
NOTHING = "-"
EXPECTED: dict[str, dict[str, str]] = {
    "Tenant": {"operator": "LAVCDHSX", "auditor": "LVHX", "owner": "LVHX", "editor": "LVHX", "viewer": "LVHX"},
    "Backend": {"operator": "LAVCDHSX", "auditor": "LVHX", "owner": "LAVCDHSX", "editor": "LAVCDHSX", "viewer": "LVHX"},
    "Hostname": {"operator": "LAVCDHS", "auditor": "LVH", "owner": "LAVCDHS", "editor": "LAVCDHS", "viewer": "LVH"},
    "PortMapping": {"operator": "LVCDHS", "auditor": "LVH", "owner": "LVCDHS", "editor": "LVCDHS", "viewer": "LVH"},
    "NexusNode": {"operator": "LAVCDHS", "auditor": "LVH", "owner": "LVH", "editor": "LVH", "viewer": "LVH"},
    "Membership": {"operator": "LAVCDHS", "auditor": "LVH", "owner": "LVCDHS"},
    "Invitation": {"operator": "LAVCDHS", "auditor": "LVH", "owner": "LAVCDHS"},
    "User": {"operator": "LAVCDHSX", "auditor": "LVHX"},
    # A credential's page is its backend's.
    "Credential": {"operator": "LDHS", "auditor": "LH", "owner": "LDHS", "editor": "LDHS", "viewer": "LH"},
    "Domain": {"operator": "LAVCDHS", "auditor": "LVH", "owner": "LAVCDHS", "editor": "LAVCDHS", "viewer": "LVH"},
    "AuditEntry": {"operator": "LVH", "auditor": "LVH", "owner": "LVH"},
    "HostnameGrant": {"operator": "LAVDHS", "auditor": "LVH", "owner": "LAVDHS", "editor": "LVH", "viewer": "LVH"},
    "Site": {"operator": "LAVCDHS", "auditor": "LVH"},
    "Group": {"operator": "LAVCDHS", "auditor": "LVH"},
}
FOREIGN = {
    "Tenant": "L",
    "Backend": "LAS",
    "Hostname": "LAS",
    "PortMapping": "LS",
    "NexusNode": "LVH",  # all tenants share them
    "Membership": "LS",
    "Invitation": "LAS",
    "Credential": "LS",
    "Domain": "LAS",
    "AuditEntry": "L",
    "HostnameGrant": "LAS",
}
for _name, _allowed in FOREIGN.items():
    EXPECTED[_name]["foreign owner"] = _allowed


class MatrixTest(AdminTestCase):
    @classmethod
    def setUpTestData(cls) -> None:
        super().setUpTestData()
        auditor = make_user("auditor")
        SiteRole.objects.create(user=auditor, role="auditor")
        inactive = make_user("inactive", acme="owner")
        type(inactive).objects.filter(pk=inactive.pk).update(is_active=False, is_superuser=True)
        cls.users = {
            "operator": cls.operator,
            "auditor": auditor,
            "owner": cls.owner,
            "editor": cls.editor,
            "viewer": cls.viewer,
            "foreign owner": cls.stranger,
            "nobody": cls.nobody,
            "inactive": inactive,
            "anonymous": None,
        }
        Invitation.objects.create(tenant=cls.acme, email="new@example.com", invited_by=cls.owner)
        Site.objects.create(slug="site")
        HostnameGrant.objects.create(tenant=cls.acme, name="granted.example.com", grantee_slug="nobodys")
        TenantKey.objects.create(tenant=cls.acme)
        Revocation.objects.create(tenant=cls.acme, token_id="one")
        cls.rows = {model: row for model in admin.site._registry if (row := cls.row_of(model)) is not None}

    @classmethod
    def row_of(cls, model: Any) -> Any:
        """Return a row of acme's, or one that is nobody's."""
        if model is get_user_model():
            return cls.viewer
        if model is Group:
            return Group.objects.create(name="group")
        if model is Membership:
            return Membership.objects.get(user=cls.viewer)
        rows = model._default_manager.all()
        lookup = getattr(model, "tenant_lookup", None)
        return (rows.filter(**{lookup: cls.acme.pk}) if lookup else rows).first()

    def found(self, client: Client, user: Any, model: Any) -> str:
        """Return what the user may do, by trying."""
        row = self.rows[model]
        letters = ""

        def answer(method: str, address: str, data: Any = None) -> Any:
            with transaction.atomic():
                response = getattr(client, method)(address, data)
                transaction.set_rollback(True)
            return response

        if answer("get", page("changelist", model)).status_code == 200:
            letters += "L"
        if answer("get", page("add", model)).status_code == 200:
            letters += "A"
        shown = answer("get", page("change", row))
        if shown.status_code == 200:
            letters += "V"
        forged = fields_of(shown) if shown.status_code == 200 else {"name": "x", "role": "owner"}
        if shown.status_code == 200 and b'name="_save"' in shown.content:
            self.assertIn(answer("post", page("change", row), forged).status_code, (200, 302))
            letters += "C"
        else:
            self.assertUntouched(client, row, page("change", row), forged)
        if answer("get", page("delete", row)).status_code == 200:
            letters += "D"
        else:
            self.assertUntouched(client, row, page("delete", row), {"post": "yes"})
        if answer("get", page("history", row)).status_code == 200:
            letters += "H"
        if user is not None and user.is_active:
            request = client.get(reverse("admin:index")).wsgi_request
            if admin.site.get_model_admin(model).get_actions(request):
                letters += "S"
        answers = [answer("get", address) for address in self.choices(model)]
        offered = [each["id"] for found in answers if found.status_code == 200 for each in found.json()["results"]]
        if str(row.pk) in offered:
            letters += "X"
        return letters or NOTHING

    def assertUntouched(self, client: Client, row: Any, address: str, data: Any) -> None:
        """Post what is not allowed, and look at the row."""
        stored = type(row)._default_manager.filter(pk=row.pk)
        before = list(stored.values())
        with transaction.atomic():
            self.assertNotEqual(client.post(address, data).status_code, 500)
            after = list(stored.values())
            transaction.set_rollback(True)
        self.assertEqual(before, after)

    @staticmethod
    def choices(model: Any) -> list[str]:
        """Return the addresses by which choices of the model are searched for."""
        found = []
        for each in admin.site._registry:
            for field in each._meta.fields:
                if isinstance(field, models.ForeignKey) and field.related_model is model:
                    query = f"app_label={each._meta.app_label}&model_name={each._meta.model_name}"
                    found.append(f"{reverse('admin:autocomplete')}?{query}&field_name={field.name}&term=")
        return found

    def test_every_combination(self) -> None:
        combinations = 0
        for name, user in self.users.items():
            client = Client()
            if user is not None:
                client.force_login(user)
            for model in self.rows:
                found = self.found(client, user, model)
                combinations += 8
                with self.subTest(user=name, model=model.__name__, found=found):
                    if model.__name__ in EXPECTED:
                        self.assertEqual(found, EXPECTED[model.__name__].get(name, NOTHING))
                    elif name in ("inactive", "anonymous"):
                        self.assertEqual(found, NOTHING)
                    elif name == "auditor":
                        self.assertFalse(set(found) & set("ACDS"))
                    elif name in ("foreign owner", "nobody") and getattr(model, "tenant_lookup", None):
                        self.assertFalse(set(found) & set("VCDH"))
        unknown = sorted(model.__name__ for model in self.rows if model.__name__ not in EXPECTED)
        without = sorted(model.__name__ for model in admin.site._registry if model not in self.rows)
        sys.stderr.write(
            f"\nmatrix: {len(self.users)} users, {len(self.rows)} admin classes, {combinations} combinations; "
            f"by rule only: {', '.join(unknown) or 'none'}; "
            f"without a row to try: {', '.join(without) or 'none'}\n"
        )

    def test_every_line_is_somebodys(self) -> None:
        known = {model.__name__ for model in apps.get_models()}
        self.assertEqual(set(EXPECTED) - known, set())
        self.assertIn(PortMapping, self.rows)
