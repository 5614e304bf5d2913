"""What an objective takes and gives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn

from ..shapes import Bool, Float


@dataclass
class Prediction:
    """What is trained says: a score per vision token, and the share of them to keep."""

    scores: Float[Tensor, "B N"]
    keep: Float[Tensor, "B"]


@dataclass
class Truth:
    """What the teacher says of the same tokens."""

    relevance: Float[Tensor, "B N"]  # a distribution over each sample's tokens, zero on padding
    keep: Float[Tensor, "B"]  # the share that is enough, in (0, 1]
    vision_mask: Bool[Tensor, "B N"]


class Objective(nn.Module, ABC):
    """One term of the loss with its weight; a weight of 0 switches it off."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        if weight < 0:
            raise ValueError(f"weight: {weight} of {type(self).__name__} must not be negative; 0 switches the term off")
        self.weight = weight

    @abstractmethod
    def forward(self, prediction: Prediction, truth: Truth) -> Float[Tensor, ""]:
        """The unweighted term, a mean over samples."""
