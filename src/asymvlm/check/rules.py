"""Rules for values of a JSON file, in words and as tests, and values as text."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..errors import first_line

_LONGEST = 80  # characters of a value that a message shows


@dataclass(frozen=True)
class Rule:
    """A rule for a value: `allowed` in words, `holds` as a test that never raises."""

    allowed: str
    holds: Callable[[Any], bool]


def exactly(value: str | int) -> Rule:
    return Rule(shown(value), lambda given: type(given) is type(value) and given == value)


def integer(least: int, most: int) -> Rule:
    """An integer in a range; true and false are none, nor is 3.0."""
    return Rule(
        f"an integer from {least} to {most}",
        lambda given: type(given) is int and least <= given <= most,
    )


def number(least: float, most: float) -> Rule:
    return Rule(
        f"a number from {least} to {most}",
        lambda given: type(given) in (int, float) and least <= given <= most,
    )


def text(allowed: str = "a string", pattern: str = r"(?s).*") -> Rule:
    found = re.compile(pattern)
    return Rule(allowed, lambda given: type(given) is str and found.fullmatch(given) is not None)


def an_object() -> Rule:
    return Rule("an object", lambda given: isinstance(given, dict))


def list_of(item: Rule, items: str, least: int = 0) -> Rule:
    return Rule(
        f"a list of {items}",
        lambda given: type(given) is list and len(given) >= least and all(map(item.holds, given)),
    )


def either(first: Rule, second: Rule) -> Rule:
    return Rule(
        f"{first.allowed} or {second.allowed}",
        lambda given: first.holds(given) or second.holds(given),
    )


NULL = Rule("null", lambda given: given is None)


def shown(value: Any) -> str:
    """Show a value as JSON writes it, short and on one line."""
    try:
        written = json.dumps(value, default=repr)
    except (ValueError, TypeError, RecursionError):
        written = f"no value that JSON can write (a Python {type(value).__name__})"
    return _cut(written)


def one_line(words: object) -> str:
    """Write line breaks and other control characters as escapes."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in str(words))


def reason(error: BaseException) -> str:
    """Say what an error says, on one line of bearable length."""
    return _cut(one_line(first_line(error)), 2 * _LONGEST)


def _cut(words: str, longest: int = _LONGEST) -> str:
    return words if len(words) <= longest else words[: longest - 3] + "..."
