"""What single families need beyond the common path: facts, by the model type of their config; no code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Facts:
    """Defaults hold for nearly every family."""

    first_position: int = 0  # where a plain forward call starts to count; `generate` adds it by itself


_FACTS = {
    "paligemma": Facts(first_position=1),
}


def facts(config: Any) -> Facts:
    """The facts of the family that `config` belongs to."""
    return _FACTS.get(config.model_type, Facts())
