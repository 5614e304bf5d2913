"""Settings that training modules share, as configs write them."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass

from ..errors import renamed_arguments
from ..limits import check_above, check_at_least, check_within

_FLAGS = {
    "backbone": "model.teacher",
    "distractors": "model.distractors",
    "objectives": "model.objectives",
    "target": "model.target",
    "teacher": "model.teacher",
}


def as_model_flags() -> AbstractContextManager[None]:
    """Name arguments in errors as `train.py` does, `model.target`, while open."""
    return renamed_arguments(_FLAGS)


@dataclass(frozen=True)
class OptimizerSettings:
    """AdamW with a warm-up and a cosine decay.

    Args:
        learning_rate: Peak of the rate.
        weight_decay: AdamW's decay.
        warm_up: Share of all steps in which the rate rises.
    """

    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warm_up: float = 0.05

    def __post_init__(self) -> None:
        check_above(0, {"model.optimizer.learning_rate": self.learning_rate})
        check_at_least(0, {"model.optimizer.weight_decay": self.weight_decay})
        check_within(0, 1, {"model.optimizer.warm_up": self.warm_up})


@dataclass(frozen=True)
class BudgetSettings:
    """The number of vision tokens behind the gates of a step through the LLM.

    Args:
        keep_range: Smallest and largest keep ratio; every sample draws its own between them,
            uniform in the logarithm.
        head_share: Share of a step's samples whose keep ratio is the budget head's instead, which
            is how the head learns; 0 leaves the head out.
        hidden: Hidden size of a budget head that starts anew.
    """

    keep_range: tuple[float, float] = (0.03125, 0.5)
    head_share: float = 0.25
    hidden: int = 32

    def __post_init__(self) -> None:
        if not 0 < self.keep_range[0] <= self.keep_range[1] <= 1:
            raise ValueError(
                f"model.budget.keep_range: {list(self.keep_range)} must be a smaller and a larger "
                "keep ratio, both in (0, 1]"
            )
        check_within(0, 1, {"model.budget.head_share": self.head_share})
        check_at_least(1, {"model.budget.hidden": self.hidden})


@dataclass(frozen=True)
class LoraSettings:
    """Low-rank adapters (Hu et al., arXiv 2106.09685).

    Args:
        rank: Inner size.
        alpha: What an adapter adds is multiplied by alpha / rank.
        targets: Linear modules that get one: a bare name is looked for in the LLM's layers, one
            with a dot in the whole model ("multi_modal_projector.linear_2").
    """

    rank: int = 8
    alpha: int = 16
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj")

    def __post_init__(self) -> None:
        check_at_least(1, {"model.lora.rank": self.rank, "model.lora.alpha": self.alpha})
        if not self.targets:
            raise ValueError("model.lora.targets: none are named; q_proj and v_proj are usual")
