"""What single families need beyond the common path: facts, by the model type of their config or of its language model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Facts:
    """How a plain forward call counts positions (`generate` does it alike everywhere). Defaults hold for nearly every family."""

    first_position: int = 0
    counts_real_tokens: bool = False  # left padding has no position of its own


_FACTS = {
    "paligemma": Facts(first_position=1),
    "opt": Facts(counts_real_tokens=True),
}


def facts(config: Any) -> Facts:
    """The facts of the family that `config` belongs to."""
    language = config.get_text_config().model_type
    return _FACTS.get(config.model_type) or _FACTS.get(language) or Facts()
