"""Searches in lists of any size.

Django joins all that is searched and removes what is doubled: that reads everything. Here each of the searched fields
is asked by itself for the keys that match, and not for more than `MOST`; with an index of trigrams that is quick both
where few match and where many do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from django.db.models import QuerySet
from django.utils.text import smart_split, unescape_string_literal

MOST: Final = 1_000
"""Rows that a search finds at most; a user who gets so many writes more of the name."""


MOST_TEXT: Final = 1_000
MOST_WORDS: Final = 10
"""Of a search; what is longer counts no further. Each word costs a question for each field, or a part of a big one."""


def bounded(text: str) -> str:
    """Return the part of a search that counts."""
    return " ".join(list(smart_split(text[:MOST_TEXT]))[:MOST_WORDS])


def found(rows: QuerySet[Any], fields: Sequence[str], text: str) -> tuple[QuerySet[Any], bool]:
    """Return the rows in which each of the words is in one of the fields, and whether there may be more of them.

    Args:
        rows: what the user may see.
        fields: look-up paths of texts, also over links.
        text: words, or phrases in quotation marks; `bounded`.
    """
    words = [unescape_string_literal(bit) if bit[:1] in "\"'" and bit[0] == bit[-1] else bit for bit in _bits(text)]
    more, keys = False, None
    # The longest word first: it is the rarest, most likely, and the others then look at what it found.
    for word in sorted(words, key=len, reverse=True):
        candidates = rows if keys is None else rows.filter(pk__in=keys)
        keys = set()
        for field in fields:
            matching = candidates.filter(**{f"{field}__icontains": word}).order_by()
            part = list(matching.values_list("pk", flat=True)[: MOST + 1])
            more = more or len(part) > MOST
            keys.update(part)
    if keys is None:
        return rows, False
    more = more or len(keys) > MOST
    return rows.filter(pk__in=sorted(keys)[:MOST]), more


def _bits(text: str) -> list[str]:
    return [bit for bit in smart_split(bounded(text).replace("\0", "")) if bit]
