"""Tests of tenants.admin.search and of the tenant filter where there are many tenants."""

from __future__ import annotations

from unittest import mock

from tenants.admin import filters, search
from tenants.models import Backend, Hostname
from tests.support.registry import make_served_backend
from tests.tenants.admin.pages import AdminTestCase, page

FIELDS = ("name", "tenant__slug", "hostname_links__hostname__name")


class SearchTest(AdminTestCase):
    @classmethod
    def setUpTestData(cls) -> None:
        super().setUpTestData()
        for number in range(12):
            make_served_backend(cls.acme, f"h{number}.example.org", name=f"shop-{number}")

    def names(self, text: str) -> tuple[list[str], bool]:
        rows, more = search.found(Backend.objects.order_by("pk"), FIELDS, text)
        return [row.name for row in rows], more

    def test_every_word_stands_in_some_field(self) -> None:
        for text, names in (
            ("SHOP-7", ["shop-7"]),
            ("h7.example", ["shop-7"]),
            ("acme shop-3", ["shop-3"]),
            ("shop-3 other", []),
            ('"shop-3"', ["shop-3"]),
            ("secluded", ["secluded-backend"]),
            ("no\0 such", []),
            ("%", []),
            ("_hop-3", []),
        ):
            with self.subTest(text):
                self.assertEqual(self.names(text), (names, False))

    def test_what_is_found_is_bounded_and_said(self) -> None:
        with mock.patch.object(search, "MOST", 5):
            found, more = self.names("shop")
            self.assertEqual((len(found), more), (5, True))
            # The longer word is asked for first, so the rare one is not lost among the many.
            self.assertEqual(self.names("o h11.example")[0], ["shop-11"])
            self.client.force_login(self.editor)
            response = self.client.get(page("changelist", Backend), {"q": "shop"})
        self.assertContains(response, "The first 5 that were found are listed")

    def test_where_there_are_many_tenants_the_slug_is_written(self) -> None:
        self.client.force_login(self.operator)
        with mock.patch.object(filters, "OFFERED_TENANTS", 1):
            for value, names in (
                ("other", {"secluded-backend"}),
                (str(self.other.pk), {"secluded-backend"}),
                ("x", set()),
            ):
                response = self.client.get(page("changelist", Backend), {"tenant": value})
                self.assertEqual({row.name for row in response.context["cl"].result_list}, names)
                self.assertContains(response, "By tenant (slug)")
            self.client.force_login(self.owner)
            response = self.client.get(page("changelist", Hostname), {"tenant": "other"})
            self.assertNotContains(response, "secluded")
