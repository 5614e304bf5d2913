"""Distillation of the teacher's importance into the scores."""

from __future__ import annotations

import torch
from torch import Tensor

from ..typing import Float
from .base import Labels, Objective, Prediction


class Distillation(Objective):
    """KL(target || softmax(scores)) per sample, in nats.

    Formula: sum_i p_i (log p_i - log softmax(s)_i) over the sample's own tokens; 0 where p_i = 0.
    Relates to `Ranking`: this one fits the whole distribution, that one the order at the top.
    Reference: Hinton et al., arXiv 1503.02531; for pruning scorers arXiv 2506.01097, section 3.
    """

    needs = frozenset({"target"})

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__(weight)

    def forward(self, prediction: Prediction, labels: Labels) -> Float[Tensor, ""]:
        scores = prediction.scores.float().masked_fill(~labels.vision_mask, -torch.inf)
        log_q = scores.log_softmax(-1).masked_fill(~labels.vision_mask, 0.0)
        p = labels.importance
        return (torch.special.xlogy(p, p) - p * log_q).sum(-1).mean()
