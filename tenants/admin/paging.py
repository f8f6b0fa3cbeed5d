"""Pages of large tables."""

from __future__ import annotations

from typing import Any, Final

from django.core.paginator import Page, Paginator
from django.http import HttpRequest
from django.utils.functional import cached_property
from unfold.views import ChangeList

MOST_COUNTED: Final = 10_000


class KeysFirstPaginator(Paginator):
    """Paginator that finds the rows of a page by their keys alone, and then reads those.

    A page of a long list is found by going through all that is before it, and a sort carries along all columns that
    are asked for. Pages of the second half are found from the end, so no two rows may be equal in the list's order: an
    order by a unique field, or one that ends with the key, as a change list's does.
    """

    def page(self, number: Any) -> Page:
        """Return one page.

        Raises:
            InvalidPage: there is no such page.
        """
        number = self.validate_number(number)
        start = (number - 1) * self.per_page
        rows: Any = self.object_list
        return Page(rows.filter(pk__in=self.keys(start, start + self.per_page)), number, self)

    def keys(self, start: int, end: int) -> list[Any]:
        """Return the keys of the rows from one place in the list up to another."""
        rows: Any = self.object_list
        keys = rows.values_list("pk", flat=True)
        if start == 0 or not rows.ordered or 2 * start < self.count:
            return list(keys[start:end])
        from_end = keys.reverse()[max(self.count - end, 0) : self.count - start]
        return list(from_end)[::-1]


class BoundedPaginator(KeysFirstPaginator):
    """Paginator of a bounded list: to go further back, narrow the search.

    They are looked for once, and not counted before.
    """

    @cached_property
    def found(self) -> list[Any]:
        """The keys of all rows that are listed."""
        return super().keys(0, MOST_COUNTED)

    @cached_property
    def count(self) -> int:
        """The number of rows, up to the limit."""
        return len(self.found)

    def keys(self, start: int, end: int) -> list[Any]:
        return self.found[start:end]


class BoundedChangeList(ChangeList):
    """Change list that takes its only page from the paginator too, which knows its rows."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        if not self.multi_page:
            self.result_list = self.paginator.page(1).object_list
