"""The interface of loss terms."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from ..typing import Bool, Float, Int64


@dataclass
class Prediction:
    """The scorer's output: a score per vision token, and the share of them to keep.

    Where it is trained through the LLM, also the logarithms of the gates, how many tokens they let
    through, and the logits of the answer's tokens behind them.
    """

    scores: Float[Tensor, "B N"]
    keep: Float[Tensor, "B"]
    log_gates: Float[Tensor, "B N"] | None = None  # -inf on padding
    counts: Float[Tensor, "B"] | None = None
    answers: Float[Tensor, "B A V"] | None = None


@dataclass
class Labels:
    """The teacher's output on the same tokens, with answer logits where it was asked for them."""

    importance: Float[Tensor, "B N"]  # a distribution over each sample's tokens, zero on padding
    keep: Float[Tensor, "B"]  # the share that is enough, in (0, 1]
    vision_mask: Bool[Tensor, "B N"]
    answers: Float[Tensor, "B A V"] | None = None
    answer_ids: Int64[Tensor, "B A"] | None = None  # -100 on padding
    # A distribution over what resembles the relevant and is not, or zeros.
    distractors: Float[Tensor, "B N"] | None = None


class Objective(nn.Module, ABC):
    """One term of the loss with its weight; a weight of 0 switches it off.

    `needs` names what a training has to provide: "target", "budget" (a budget head), "gates",
    "answers" (logits of the pruned answer), "dense_answers" and "distractors".
    """

    needs: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, weight: float) -> None:
        super().__init__()
        if not 0 <= weight < math.inf:
            raise ValueError(
                f"weight: {weight} of {type(self).__name__} must be a number that is not negative; "
                "0 switches the term off"
            )
        self.weight = weight

    def weight_at(self, progress: float) -> float:
        """Return the weight at `progress` in [0, 1]. Override it for a term that comes or goes."""
        return self.weight

    @abstractmethod
    def forward(self, prediction: Prediction, labels: Labels) -> Float[Tensor, ""]:
        """Compute the unweighted term, a mean over samples."""


def needs(objectives: Mapping[str, Objective]) -> set[str]:
    """Collect all that the terms with a weight need."""
    return {need for term in objectives.values() if term.weight > 0 for need in term.needs}


def check_objectives(objectives: Mapping[str, Objective], given: Set[str]) -> None:
    """Refuse terms that a training cannot serve; `given` is what it provides.

    Raises ValueError, too where no term has a weight.
    """
    for name, term in objectives.items():
        missing = sorted(term.needs - given) if term.weight > 0 else []
        if missing:
            raise ValueError(
                f"objectives.{name}: {type(term).__name__} has a weight of {term.weight:g} "
                f"and needs {_WHERE[missing[0]]}; provide that, or set the weight to 0"
            )
    if not any(term.weight > 0 for term in objectives.values()):
        raise ValueError("objectives: no term has a weight, so nothing would be learned")


_WHERE = {
    "answers": "the LLM's answers; train with GateModule or LoraModule",
    "budget": "a budget head (budget.head_share above 0)",
    "dense_answers": "the LLM's dense answers; train with GateModule or LoraModule",
    "distractors": "distractors, a target",
    "gates": "gates; train with GateModule",
    "target": "a target",
}
