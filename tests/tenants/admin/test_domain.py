"""Claims, grants and limits on the admin's pages."""

from __future__ import annotations

from typing import Any

from django.test import override_settings
from django.utils import timezone

from tenants.models import Domain, Hostname, VerifiedBy
from tenants.rules import ownership
from tests.support.dns import DnsServer
from tests.support.registry import make_domain
from tests.tenants.admin.pages import AdminTestCase, errors_of, fields_of, page


class DomainPageTest(AdminTestCase):
    def setUp(self) -> None:
        self.dns = self.enterContext(DnsServer())
        self.enterContext(override_settings(DNS_RESOLVERS=[self.dns.address], DNS_TIMEOUT=1))

    def add(self, name: str, **more: Any) -> Any:
        return self.client.post(page("add", Domain), {"tenant": self.acme.pk, "name": name, **more})

    def run_action(self, action: str, *claims: Domain) -> Any:
        with self.captureOnCommitCallbacks(execute=True):
            chosen = {"action": action, "_selected_action": [claim.pk for claim in claims]}
            return self.client.post(page("changelist", Domain), chosen, follow=True)

    def test_a_member_claims_publishes_and_has_it_looked_up(self) -> None:
        self.client.force_login(self.editor)
        self.assertSaved(self.add("NEW.Example."))
        claim = Domain.objects.get(name="new.example")
        shown = self.client.get(page("change", claim))
        self.assertContains(shown, f"_nexusadmin.new.example. IN TXT &quot;nexusadmin-domain={claim.token}&quot;")
        self.assertContains(shown, "waits for its proof")
        self.assertNotContains(shown, "Give it without proof")
        self.run_action("check_now", claim)
        claim.refresh_from_db()
        self.assertIn("There is no TXT record", claim.problem)
        self.assertContains(self.run_action("check_now", claim), "each again after ten seconds")
        self.dns.zone[claim.record_name] = [claim.record_value]
        Domain.objects.update(checked_at=None)
        with self.captureOnCommitCallbacks(execute=True):
            given = {**fields_of(self.client.get(page("change", claim))), "tenants_domain_check_this": ""}
            self.assertSaved(self.client.post(page("change", claim), given))
        claim.refresh_from_db()
        self.assertEqual(claim.verified_by, "dns")
        response = self.client.post(page("add", Hostname), {"tenant": self.acme.pk, "name": "a.new.example"})
        self.assertSaved(response)

    def test_so_many_look_ups_of_a_tenant_in_a_minute(self) -> None:
        claims = [make_domain(self.acme, f"d{number}.example", None) for number in range(12)]
        self.client.force_login(self.editor)
        self.assertContains(self.run_action("check_now", *claims), "2 not looked up: 10 at once, 10 of a tenant in a")
        self.assertContains(self.run_action("check_now", *claims), "12 not looked up")
        self.assertEqual(len(self.dns.asked), 10)

    def test_what_can_not_be_claimed_is_said_at_the_field(self) -> None:
        self.client.force_login(self.owner)
        for name, words in (
            ("com", "top-level"),
            ("*.example.org", "write example.org"),
            ("co.uk", "Different people register names under co.uk"),
            ("example.com", "claims this domain already"),
            ("a b", "space"),
        ):
            with self.subTest(name):
                self.assertIn(words, " ".join(errors_of(self.add(name))["name"]))
        Domain.objects.bulk_create(
            [Domain(tenant=self.acme, name=f"d{n}.example") for n in range(ownership.MOST_PENDING)]
        )
        self.assertIn("prove some", errors_of(self.add("one.more.example"))["name"][0])

    def test_a_claim_to_what_another_tenant_has_proved_tells_nothing(self) -> None:
        make_domain(self.other, "example.net")
        self.client.force_login(self.owner)
        for name in ("example.net", "free.example"):
            self.assertSaved(self.add(name))
            shown = self.client.get(page("change", Domain.objects.get(tenant=self.acme, name=name)))
            self.assertContains(shown, "waits for its proof")
            self.assertNotContains(shown, "In the way")
            self.assertNotContains(shown, "Other Company")

    def test_members_give_nothing_and_viewers_do_nothing(self) -> None:
        claim = make_domain(self.acme, "new.example", None)
        self.client.force_login(self.owner)
        self.add("forged.example", given="on")
        self.assertFalse(Domain.objects.get(name="forged.example").is_verified)
        self.run_action("give", claim)
        self.client.post(page("change", claim), {"tenants_domain_give_this": ""})
        self.client.force_login(self.viewer)
        self.assertEqual(self.add("viewers.example").status_code, 403)
        self.assertContains(self.client.get(page("change", claim)), claim.token)
        self.assertEqual(self.client.post(page("change", claim), {"tenants_domain_check_this": ""}).status_code, 403)
        self.run_action("check_now", claim)
        claim.refresh_from_db()
        self.assertEqual((claim.is_verified, claim.checked_at, self.dns.asked), (False, None, []))

    def test_an_operator_gives_and_is_told_what_is_in_the_way(self) -> None:
        self.client.force_login(self.operator)
        response = self.add("example.net", given="on")
        self.assertIn("In the way: secluded.example.net of other.", errors_of(response)["name"])
        claim, free = make_domain(self.acme, "example.net", None), make_domain(self.acme, "free.example", None)
        self.assertContains(self.client.get(page("change", claim)), "secluded.example.net of other")
        response = self.run_action("give", claim, free)
        self.assertContains(response, "In the way: secluded.example.net of other.")
        self.assertContains(response, "free.example is given to acme.")
        self.assertEqual([row.is_verified for row in Domain.objects.filter(pk__in=[claim.pk, free.pk])], [False, True])
        self.assertSaved(self.add("given.example", given="on"))
        self.assertEqual(Domain.objects.get(name="given.example").verified_by, "operator")
        self.client.post(page("change", claim), {"tenants_domain_give_this": ""})
        Hostname.objects.filter(name="secluded.example.net").delete()
        self.client.post(page("change", claim), {"tenants_domain_give_this": ""})
        claim.refresh_from_db()
        self.assertEqual(claim.verified_by, "operator")

    def test_the_list_tells_proved_pending_and_lost_apart(self) -> None:
        pending = make_domain(self.acme, "pending.example", None)
        lost = make_domain(self.acme, "lost.example", VerifiedBy.DNS)
        Domain.objects.filter(pk=lost.pk).update(problem="gone", checked_at=timezone.now())
        self.client.force_login(self.viewer)
        for state, expected in (("pending", [pending]), ("doubtful", [lost]), ("proved", [self.domain, lost])):
            found = self.client.get(page("changelist", Domain) + f"?state={state}").context["cl"].result_list
            self.assertCountEqual(found, expected)

    def test_nothing_of_a_claim_can_be_changed(self) -> None:
        claim = make_domain(self.acme, "new.example", None)
        for user in (self.owner, self.operator):
            self.client.force_login(user)
            forged = {
                "name": "x.example",
                "tenant": self.other.pk,
                "token": "x",
                "verified_by": "dns",
                "verified_at_0": "2026-01-01",
                "verified_at_1": "00:00",
                "given": "on",
            }
            self.client.post(page("change", claim), forged)
            row = Domain.objects.get(pk=claim.pk)
            for name in ("name", "tenant_id", "token", "verified_by", "verified_at"):
                self.assertEqual(getattr(row, name), getattr(claim, name))

    def test_a_broken_broker_is_no_error(self) -> None:
        claim = make_domain(self.acme, "new.example", None)
        self.client.force_login(self.owner)
        with override_settings(CELERY_TASK_ALWAYS_EAGER=False):
            self.assertEqual(self.run_action("check_now", claim).status_code, 200)
