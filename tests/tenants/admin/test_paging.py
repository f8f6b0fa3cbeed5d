"""Tests of tenants.admin.paging."""

from __future__ import annotations

from unittest import mock

from django.core.paginator import EmptyPage
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tenants.admin import paging
from tenants.models import AuditEntry, Hostname
from tests.tenants.admin.pages import AdminTestCase, page


class PagingTest(AdminTestCase):
    def setUp(self) -> None:
        for number in range(7):
            Hostname.objects.create(tenant=self.acme, name=f"h{number}.paging.example.com")
        self.rows = Hostname.objects.filter(name__contains="paging").order_by("-name")

    def test_each_row_is_on_one_page_in_its_order(self) -> None:
        for kind in (paging.KeysFirstPaginator, paging.BoundedPaginator):
            with self.subTest(kind.__name__):
                pages = kind(self.rows, 3)
                self.assertEqual([pages.count, pages.num_pages], [7, 3])
                names = [row.name.partition(".")[0] for number in pages.page_range for row in pages.page(number)]
                self.assertEqual(names, ["h6", "h5", "h4", "h3", "h2", "h1", "h0"])
                with self.assertRaises(EmptyPage):
                    pages.page(4)

    def test_pages_of_any_size_hold_what_the_whole_list_holds(self) -> None:
        whole = list(self.rows)
        for size in range(1, 9):
            with self.subTest(size):
                pages = paging.KeysFirstPaginator(self.rows, size)
                self.assertEqual([row for number in pages.page_range for row in pages.page(number)], whole)

    def test_the_last_page_is_found_from_the_end(self) -> None:
        pages = paging.KeysFirstPaginator(self.rows, 3)
        self.assertEqual(pages.count, 7)
        with CaptureQueriesContext(connection) as queries:
            self.assertEqual([row.name[:2] for row in pages.page(3)], ["h0"])
        self.assertNotIn("OFFSET", queries[0]["sql"])

    def test_a_bounded_list_ends(self) -> None:
        with mock.patch.object(paging, "MOST_COUNTED", 4):
            pages = paging.BoundedPaginator(self.rows, 3)
            self.assertEqual([len(pages.page(number)) for number in pages.page_range], [3, 1])

    def test_the_audit_trail_is_gone_through_once(self) -> None:
        self.client.force_login(self.operator)
        for query, number in (("?q=h5.paging", 1), ("?q=paging", 7)):
            with self.subTest(query), CaptureQueriesContext(connection) as queries:
                found = self.client.get(page("changelist", AuditEntry) + query).context["cl"]
                self.assertEqual(len(found.result_list), number)
                texts = [each["sql"] for each in queries if "LIKE" in each["sql"] and "auditentry" in each["sql"]]
                # The other one takes the rows that were found by their keys.
                self.assertEqual(sum('"id" IN (' not in text for text in texts), 1)
