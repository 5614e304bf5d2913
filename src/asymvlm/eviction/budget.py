"""The number of entries that a row may hold, and the protected ones among them."""

from __future__ import annotations

from dataclasses import dataclass

from .base import Evictor


@dataclass(frozen=True)
class Budget:
    """Entries per row and layer."""

    text: int
    vision: int | None  # None: all of them stay
    sinks: int
    recent: int


def budget_for(policy: Evictor, text: int, vision: int | None) -> Budget:
    """Check a budget against a policy's protected entries.

    Raises ValueError for a bad one, and for one that protected entries fill.
    """
    for name, value in (("text_budget", text), ("vision_budget", vision)):
        if value is None and name == "vision_budget":
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(
                f"{name}: {value!r} is not accepted; give a count of entries per row, an int of at "
                "least 1"
            )
    recent = text // 2 if policy.recent is None else policy.recent
    least = policy.sinks + recent + 1
    if text < least:
        raise ValueError(
            f"text_budget: {text} is less than the {least} that {type(policy).__name__} needs: "
            f"{policy.sinks} first and {recent} newest "
            "entries never leave, and one has to; give a larger budget, or a policy with fewer "
            "`sinks` or `recent`"
        )
    return Budget(text, vision, policy.sinks, recent)
