"""What an objective takes and gives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn

from ..typing import Bool, Float, Int64


@dataclass
class Prediction:
    """What is trained says: a score per vision token, and the share of them to keep.

    Where it is trained through the LLM, also the logarithms of the gates, how many tokens they let through, and the logits of the answer's
    tokens behind them.
    """

    scores: Float[Tensor, "B N"]
    keep: Float[Tensor, "B"]
    log_gates: Float[Tensor, "B N"] | None = None  # -inf on padding
    counts: Float[Tensor, "B"] | None = None
    answers: Float[Tensor, "B A V"] | None = None


@dataclass
class Labels:
    """What the teacher says of the same tokens; where it was asked, also the logits of the answer's tokens with all vision tokens there."""

    importance: Float[Tensor, "B N"]  # a distribution over each sample's tokens, zero on padding
    keep: Float[Tensor, "B"]  # the share that is enough, in (0, 1]
    vision_mask: Bool[Tensor, "B N"]
    answers: Float[Tensor, "B A V"] | None = None
    answer_ids: Int64[Tensor, "B A"] | None = None  # -100 on padding
    distractors: Float[Tensor, "B N"] | None = None  # a distribution over what resembles the relevant and is not, or zeros


class Objective(nn.Module, ABC):
    """One term of the loss with its weight; a weight of 0 switches it off."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        if weight < 0:
            raise ValueError(f"weight: {weight} of {type(self).__name__} must not be negative; 0 switches the term off")
        self.weight = weight

    def weight_at(self, progress: float) -> float:
        """The weight when `progress`, in [0, 1], of the training is done. Override it for a term that comes or goes."""
        return self.weight

    @abstractmethod
    def forward(self, prediction: Prediction, labels: Labels) -> Float[Tensor, ""]:
        """The unweighted term, a mean over samples."""
