"""Refuse settings that make no sense, in one line: the key, the value and what it may be.

Each raises ValueError for the first setting outside of its limits, also for what is no number.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence


def check_at_least(least: float, settings: Mapping[str, float]) -> None:
    """Refuse numbers below `least`."""
    for key, value in settings.items():
        if not least <= value < math.inf:
            raise ValueError(f"{key}: {value} must be at least {least}")


def check_above(bound: float, settings: Mapping[str, float]) -> None:
    """Refuse numbers that are not above `bound`."""
    for key, value in settings.items():
        if not bound < value < math.inf:
            raise ValueError(f"{key}: {value} must be above {bound}")


def check_within(low: float, high: float, settings: Mapping[str, float]) -> None:
    """Refuse numbers outside of [low, high]."""
    for key, value in settings.items():
        if not low <= value <= high:
            raise ValueError(f"{key}: {value} must lie in [{low}, {high}]")


def check_share(settings: Mapping[str, float]) -> None:
    """Refuse numbers that are no share of something: outside of (0, 1]."""
    for key, value in settings.items():
        if not 0 < value <= 1:
            raise ValueError(f"{key}: {value} must be a share in (0, 1]")


def check_named(settings: Mapping[str, Collection[object] | None]) -> None:
    """Refuse what is there and empty; None stands for what is left out."""
    for key, value in settings.items():
        if value is not None and not value:
            raise ValueError(f"{key}: {value!r} names nothing; name at least one, or leave it out")


def check_one_of(known: Sequence[str], settings: Mapping[str, str]) -> None:
    """Refuse words that are not among `known`."""
    for key, value in settings.items():
        if value not in known:
            raise ValueError(f"{key}: {value!r} is not one of {', '.join(known)}")
