"""A term that pulls soft gates to a hard choice."""

from __future__ import annotations

import torch
from torch import Tensor

from ..gates import hard_choice
from ..typing import Float
from .base import Labels, Objective, Prediction


class Hardening(Objective):
    """Binary cross-entropy of the gates to the hard choice of as many tokens.

    Formula: mean over samples and their tokens of -h_i log m_i - (1 - h_i) log(1 - m_i); h_i = 1
    for the k best, k the rounded sum of the gates. Its weight grows linearly from `first_weight` to
    `weight` over the training.
    Relates to `Gate.last_temperature`, which hardens without a term of its own.
    Reference: VisionSelector, arXiv 2510.16598 (0.1 to 2.0).
    """

    needs = frozenset({"gates"})

    def __init__(self, weight: float = 0.0, first_weight: float = 0.0) -> None:
        super().__init__(weight)
        if not 0 <= first_weight <= weight:
            raise ValueError(
                f"first_weight: {first_weight} must lie in [0, weight = {weight}]: the term comes "
                "in, it does not go"
            )
        self.first_weight = first_weight

    def weight_at(self, progress: float) -> float:
        return self.first_weight + (self.weight - self.first_weight) * progress

    def forward(self, prediction: Prediction, labels: Labels) -> Float[Tensor, ""]:
        assert prediction.log_gates is not None and prediction.counts is not None
        mask = labels.vision_mask
        opened = prediction.log_gates.masked_fill(~mask, 0.0)
        shut = torch.log(-torch.expm1(opened.clamp(max=-1e-6)))  # log(1 - m)
        hard = hard_choice(prediction.scores, mask, prediction.counts)
        losses = -torch.where(hard, opened, shut)
        return (torch.where(mask, losses, 0.0).sum(-1) / mask.sum(-1).clamp_min(1)).mean()
