"""A tenant's owner who means harm: what the pages that are no lists could tell or do (the walk asks the others)."""

from __future__ import annotations

import logging
import re
from typing import Any

from django.contrib import admin
from django.urls import reverse

from tenants.models import AuditEntry, Backend, Credential, Membership, Role, Tenant
from tests.tenants.admin.pages import AdminTestCase, page

SCRIPT = '"><script>alert(7)</script>'
VICTIM = "secluded.example.net"  # other's
NOBODYS = "unheard0.example.net"  # as long


class OracleTest(AdminTestCase):
    """What is another tenant's must look like what is nobody's."""

    def setUp(self) -> None:
        log = logging.getLogger("django.security")  # refused look-ups are what is asked for
        self.addCleanup(log.setLevel, log.level)
        log.setLevel(logging.CRITICAL)
        Tenant.objects.filter(pk=self.other.pk).update(slug="secluded-slug")

    def same(self, address: str, victim: str, nobodys: str, *, to: Any = None, **data: Any) -> None:
        """Ask for a page with either word, and compare.

        Args:
            to: the users whom it is served to; all for None. Two refusals would be the same too, and tell nothing.
        """
        for user in (self.owner, self.editor, self.viewer):
            self.client.force_login(user)
            served = to is None or user in to
            texts = []
            for word in (victim, nobodys):
                for method in (self.client.get, self.client.post):
                    answer = method(address, {key: value.format(word) for key, value in data.items()})
                    text = re.sub(
                        r'value="[A-Za-z0-9]{64}"|nonce="[^"]*"|"X-CSRFToken": "[^"]*"', "", b"".join(answer).decode()
                    )
                    texts.append((answer.status_code, answer.headers.get("Location"), text.replace(word, "WORD")))
            self.assertEqual([texts[0][0], texts[2][0]], [200 if served else 403] * 2, f"{address} {data} as {user}")
            for (*said, text), (*of_nobody, same_text) in zip(texts[:2], texts[2:], strict=True):
                self.assertEqual(said, of_nobody)
                lines = zip(text.splitlines(), same_text.splitlines(), strict=False)
                told = [pair for pair in lines if pair[0] != pair[1]][:3]
                self.assertEqual((told, len(text)), ([], len(same_text)), f"{address} as {user}")

    def test_the_tester(self) -> None:
        address = reverse("admin:tenants_resolve")
        for transport in ("tcp", "udp"):
            self.same(address, VICTIM, NOBODYS, host="{}", port="443", client_ip="192.0.2.1", transport=transport)
            self.same(address, VICTIM, NOBODYS, host="{}", port="443", transport=transport, dial="1")
        self.same(address, "www.secluded.example.net", "www.unheard0.example.net", host="{}", port="443")

    def test_usage(self) -> None:
        self.same(reverse("admin:tenants_usage"), "secluded-slug", "unheard0-slug", tenant="{}", days="30")

    def test_the_trail(self) -> None:
        address = page("changelist", AuditEntry)
        for name in ("tenant", "who", "did", "kind", "through", "q"):
            self.same(address, "secluded-slug", "unheard0-slug", to=[self.owner], **{name: "{}"})
            self.same(address, "stranger", "strangex", to=[self.owner], **{name: "{}"})
        for file_format in ("csv", "json"):
            self.same(f"{address}export/{file_format}/", "secluded-slug", "unheard0-slug", to=[self.owner], tenant="{}")


class ReachTest(AdminTestCase):
    """What is not an owner's to do."""

    def test_limits_and_policies_of_the_tenant_can_not_be_posted(self) -> None:
        self.client.force_login(self.owner)
        before = Tenant.objects.filter(pk=self.acme.pk).values().get()
        fields = {
            "slug": "acme",
            "max_backends": 0,
            "target_networks": "0.0.0.0/0, ::/0",
            "target_unix": "on",
            "enabled": "on",
        }
        self.assertEqual(self.client.post(page("change", self.acme), fields).status_code, 403)
        self.assertEqual(Tenant.objects.filter(pk=self.acme.pk).values().get(), before)

    def test_what_operators_set_up_is_told_nowhere(self) -> None:
        credential = self.backend.credential
        credential.kind, credential.command, credential.args = "command", "/opt/canary-command", ["--canary-argument"]
        credential.env = {"CANARY": "canary-environment"}
        credential.save()
        Backend.objects.filter(pk=self.backend.pk).update(weight=2)
        entry = AuditEntry.objects.filter(model="tenants.credential").latest("pk")
        trail = page("changelist", AuditEntry)
        addresses = [
            page("change", self.backend), page("history", self.backend), page("changelist", Credential),
            page("history", credential), trail, page("change", entry), f"{trail}export/csv/", f"{trail}export/json/",
            f"{trail}?q=canary", reverse("admin:index"), reverse("admin:tenants_usage"),
            f"{reverse('admin:tenants_resolve')}?host=app.example.com&port=443",
        ]  # fmt: skip
        owners = {trail, page("change", entry), f"{trail}export/csv/", f"{trail}export/json/", f"{trail}?q=canary"}
        for user in (self.owner, self.editor, self.viewer):
            self.client.force_login(user)
            for address in addresses:
                answer = self.client.get(address, follow=True)
                served = user == self.owner or address not in owners
                shown = answer.status_code == 200 and not answer.redirect_chain
                self.assertEqual(shown, served, f"{address} as {user}: {answer.status_code}")
                content = b"".join(answer.streaming_content) if answer.streaming else answer.content
                with self.subTest(user=user.username, address=address):
                    self.assertEqual(re.findall(rb"[^ ]{0,20}canary-[a-z]+", content), [])

    def test_who_was_removed_or_switched_off_sees_nothing_with_the_session_that_is_open(self) -> None:
        self.client.force_login(self.owner)
        self.assertEqual(self.client.get(page("change", self.backend)).status_code, 200)
        Membership.objects.filter(user=self.owner).delete()
        self.assertEqual(self.client.get(page("change", self.backend)).status_code, 403)
        Membership.objects.create(user=self.owner, tenant=self.acme, role=Role.OWNER)
        type(self.owner).objects.filter(pk=self.owner.pk).update(is_active=False)
        self.assertEqual(self.client.get(page("change", self.backend)).status_code, 302)

    def test_what_a_tenant_writes_is_text_on_an_operators_page(self) -> None:
        Tenant.objects.filter(pk=self.acme.pk).update(name=SCRIPT)
        Backend.objects.filter(pk=self.backend.pk).update(name=SCRIPT)
        type(self.owner).objects.filter(pk=self.owner.pk).update(first_name=SCRIPT, username=SCRIPT)
        self.client.force_login(self.owner, backend="django.contrib.auth.backends.ModelBackend")
        self.client.get(reverse("admin:index"), headers={"User-Agent": SCRIPT})
        self.client.force_login(self.operator)
        addresses = [
            reverse("admin:index"),
            reverse("admin:tenants_usage"),
            f"{reverse('admin:tenants_usage')}?tenant=acme",
        ]
        addresses += [f"{reverse('admin:tenants_resolve')}?host=app.example.com&port=443"]
        for model in admin.site._registry:
            addresses += [page("changelist", model), f"{page('changelist', model)}?q=script"]
            rows = model._default_manager.all()[:3]
            addresses += [page(action, row) for row in rows for action in ("change", "delete", "history")]
        told = 0
        for address in addresses:
            answer = self.client.get(address, follow=True)
            told += b"&lt;script&gt;alert(7)" in answer.content
            with self.subTest(address):
                kept = "/auditentry/" in address and address.endswith("/delete/")
                self.assertEqual(answer.status_code, 403 if kept else 200)
                self.assertEqual(re.findall(rb".{0,60}<script>alert\(7\)", answer.content), [])
        self.assertGreater(told, 20)  # else the pages would show nothing of it
