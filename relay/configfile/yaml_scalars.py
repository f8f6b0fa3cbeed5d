"""What plain YAML scalars are: the numbers and flags of YAML 1.1 and 1.2 that existing files hold."""

from __future__ import annotations

import re
from typing import Final

NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})
FLAGS: Final = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
"""Flags that are flags without quotes only."""

SWITCHES: Final = {
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "off", "Off", "OFF"), False),
}
"""Words of YAML 1.1: texts, which a field that wants a flag takes."""

_BASES: Final = {"0x": 16, "0b": 2, "0o": 8}
_BASED: Final = re.compile(r"[-+]?(?:0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO][0-7]+)", re.ASCII)
_OCTAL: Final = re.compile(r"[-+]?0[0-7]+", re.ASCII)
_DECIMAL: Final = re.compile(r"[-+]?(?:0|[1-9][0-9]*)", re.ASCII)
_FRACTION: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", re.ASCII)
_LONGEST: Final = 400
_BOUND: Final = 2**63


def is_octal(text: str) -> bool:
    """Tell whether a number is octal for its leading zero alone, as YAML 1.1 has it."""
    return bool(_OCTAL.fullmatch(text.replace("_", "")))


def whole_number(text: str) -> int | None:
    """Return the whole number that a plain scalar is, None where it is none, or none of 64 bits.

    Underscores are left out, ``0x``, ``0o`` and ``0b`` count, a leading zero makes an octal number where all digits
    allow it, and a fraction loses what is behind its point: as the files' own client reads them.
    """
    if _DECIMAL.fullmatch(text) and len(text) < 19:
        return int(text)  # what nearly all numbers are, told quickly
    if len(text) > _LONGEST or text.startswith("_"):
        return None
    digits = text.replace("_", "")
    if _DECIMAL.fullmatch(digits):
        number = int(digits)
    elif _BASED.fullmatch(digits):
        number = int(digits, _BASES[digits.lstrip("+-")[:2].lower()])
    elif _OCTAL.fullmatch(digits):
        number = int(digits, 8)
    elif _FRACTION.fullmatch(digits):
        fraction = float(digits)
        if abs(fraction) >= _BOUND:
            return None
        number = int(fraction)
    else:
        return None
    return number if -_BOUND <= number < _BOUND else None
