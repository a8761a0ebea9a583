"""JSON from files that may be damaged or hostile: values that nothing later on stumbles over."""

from __future__ import annotations

import json
import re

MOST_DEPTH = 32  # lists and objects in each other; what we write has less than half of it
WHOLE_BITS = 63  # of a whole number, beside its sign
MANY_DIGITS = re.compile(rb"[-\[:,\s]\d{19}")  # no smaller number has more bits; looked for first: a call for each number is slow


def parse_json(text: bytes, strict: bool = True):
    """The value of a JSON text in UTF-8.

    Args:
        text: Of a file.
        strict: Whether NaN, infinity and whole numbers of more than 64 bits, which JSON or its readers need not have, are refused.

    Raises:
        ValueError: It is no such JSON, or deeper than MOST_DEPTH.
    """
    hooks = {"parse_constant": _refused} if strict else {}
    if strict and (MANY_DIGITS.search(text) or text[:1].isdigit()):
        hooks["parse_int"] = _whole
    try:
        value = json.loads(text.decode("utf-8"), **hooks)
    except RecursionError as error:
        raise ValueError(f"expected at most {MOST_DEPTH} lists and objects in each other, found more") from error
    level, depth = [value], 0
    while level := [inner for outer in level for inner in _inside(outer) if isinstance(inner, (dict, list))]:
        depth += 1
        if depth >= MOST_DEPTH:
            raise ValueError(f"expected at most {MOST_DEPTH} lists and objects in each other, found more")
    return value


def _inside(value):
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _whole(text: str) -> int:
    number = int(text) if len(text) < 21 else 1 << 64
    if number.bit_length() > WHOLE_BITS:
        raise ValueError(f"expected whole numbers of at most 64 bits, found one of {len(text)} digits")
    return number


def _refused(name: str):
    raise ValueError(f"expected finite numbers, found {name}")
