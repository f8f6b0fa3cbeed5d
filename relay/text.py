"""Text of files, as editors of all systems write it."""

from __future__ import annotations

from typing import Final

_BYTE_ORDER_MARKS: Final = (b"\xff\xfe", b"\xfe\xff")


def decode(data: bytes) -> str:
    """Return the text of a file: UTF-8, or UTF-16 with a byte order mark, which is no part of the text.

    Raises:
        UnicodeDecodeError: it is neither.
    """
    return data.decode("utf-16" if data[:2] in _BYTE_ORDER_MARKS else "utf-8-sig")


def printable(text: str) -> str:
    """Return a text with a space in place of each character that cannot be printed, line breaks among them."""
    return "".join(character if character.isprintable() else " " for character in text)
