"""The bytes that the recorded sessions carried: ``(7 i + i // 251) mod 256``."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

_PERIOD = 251 * 128
_BLOCK = bytes((7 * i + i // 251) & 0xFF for i in range(_PERIOD)) * 4


def pattern(size: int) -> bytes:
    """Return the first `size` bytes."""
    return (_BLOCK * (size // len(_BLOCK) + 1))[:size]


def pattern_chunks(size: int) -> Iterator[bytes]:
    """Yield the first `size` bytes, some 128 KiB at a time."""
    whole, rest = divmod(size, len(_BLOCK))
    for _ in range(whole):
        yield _BLOCK
    if rest:
        yield _BLOCK[:rest]


def pattern_hash(size: int) -> str:
    """Return the SHA-256 of the first `size` bytes, in hex."""
    digest = hashlib.sha256()
    for chunk in pattern_chunks(size):
        digest.update(chunk)
    return digest.hexdigest()
