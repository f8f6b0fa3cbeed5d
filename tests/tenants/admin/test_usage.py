"""Tests of the usage page: everybody's own, in a constant number of queries."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from tenants.models import Backend, BackendUsage, CredentialUse, RelayProcess, RelaySession
from tests.support.registry import make_backend
from tests.tenants.admin.pages import AdminTestCase, page


def use(backend: Backend, hours: int = 0, **fields: int) -> None:
    """Save what a relay told of one hour."""
    hour = timezone.now().replace(minute=0, second=0, microsecond=0) - timedelta(hours=hours)
    BackendUsage.objects.create(tenant=backend.tenant, backend=backend, hour=hour, **fields)


class UsagePageTests(AdminTestCase):
    @classmethod
    def setUpTestData(cls) -> None:
        super().setUpTestData()
        now = timezone.now()
        relay = RelayProcess.objects.create(
            name="relay-of-many", started_at=now, seen_at=now, expires_at=now + timedelta(hours=1)
        )
        for backend, streams in ((cls.backend, 11), (cls.foreign, 77)):
            RelaySession.objects.create(
                relay=relay,
                backend=backend,
                node="wss://node.example.com/connect",
                state="up",
                dialect="attested",
                up_since=now,
                streams=streams,
                claims={"hostnames": [f"live-{backend.name}.example.com"], "weight": 1, "tcp_ports": [25]},
            )
            use(backend, streams=streams * 1000, bytes_sent=5 * 2**20, peak_streams=4)
            use(backend, hours=24 * 20, streams=streams * 1000, peak_streams=9)
            use(backend, hours=24 * 40, streams=5_555_555)

    def show(self, user: Any, **given: Any) -> Any:
        self.client.force_login(user)
        return self.client.get(reverse("admin:tenants_usage"), given)

    def test_members_see_their_tenants(self) -> None:
        for user in (self.owner, self.editor, self.viewer):
            answer = self.show(user)
            for text in ("11000", "5.0", "live-edge.example.com", "tcp:25", "relay-of-many"):
                self.assertContains(answer, text)
            for text in ("77000", "secluded", "22000", "5555555"):
                self.assertNotContains(answer, text)
            self.assertContains(self.show(user, days="30"), "22000")
            self.assertNotContains(self.show(user, days="30"), "5555555")

    def test_another_tenants_name_looks_as_nobodys(self) -> None:
        for slug in ("other", "otter", "\0", "o'", "other ", "%"):
            answer = self.show(self.owner, tenant=slug)
            self.assertContains(answer, "There is no tenant of this name that you may see.")
            self.assertNotContains(answer, "77000")
        self.assertEqual(self.show(self.nobody).status_code, 403)

    def test_operators_see_relays_and_every_tenant(self) -> None:
        answer = self.show(self.operator)
        self.assertContains(answer, "relay-of-many")
        self.assertContains(answer, "77000")
        self.assertContains(self.show(self.operator, tenant="other", days="nonsense"), "live-secluded-backend")

    def test_a_backend_that_went_to_another_tenant_takes_its_name_along(self) -> None:
        BackendUsage.objects.filter(backend=self.foreign).update(tenant=self.acme)
        self.assertNotContains(self.show(self.owner), "secluded")

    def test_a_constant_number_of_queries(self) -> None:
        def count() -> int:
            self.show(self.owner)
            with CaptureQueriesContext(connection) as queries:
                self.show(self.owner, days="30")
            return len(queries)

        before = count()
        for number in range(10):
            backend = make_backend(self.acme, name=f"more-{number}")
            use(backend, streams=1)
        self.assertEqual(count(), before)
        self.assertLess(before, 20)

    def test_the_credential_says_when_a_node_took_it(self) -> None:
        self.client.force_login(self.owner)
        self.assertContains(self.client.get(page("change", self.backend)), "never, as far as relays tell")
        used = {"used_at": timezone.now(), "relay": "relay-of-many", "node": "wss://n/connect", "fingerprint": "f00"}
        CredentialUse.objects.create(backend=self.backend, **used)
        answer = self.client.get(page("change", self.backend))
        self.assertContains(answer, "by relay-of-many, at wss://n/connect; with the secret of fingerprint f00")
        self.assertContains(self.client.get(reverse("admin:tenants_credential_changelist")), "by relay-of-many")

    def test_what_is_deleted_takes_its_reports_along(self) -> None:
        Backend.objects.filter(pk=self.backend.pk).delete()
        self.assertEqual(BackendUsage.objects.filter(backend_id=self.backend.pk).count(), 0)
        self.client.force_login(self.operator)
        answer = self.client.get(page("delete", self.other))
        self.assertNotContains(answer, "backend usage")
        self.client.post(page("delete", self.other), {"post": "yes"})
        self.assertEqual((BackendUsage.objects.count(), RelaySession.objects.count()), (0, 0))
