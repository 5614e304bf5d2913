"""A hard choice with the gradient of a soft one."""

from __future__ import annotations

import torch
from torch import Tensor

from ..shapes import Bool, Float
from .base import Gate, hard_choice

SHUT = -30.0  # log of a shut gate: what is behind it gets 1e-13 of the attention


class StraightThrough(Gate):
    """Forward the k best tokens' gates are 1 and all others shut; backward as if they were `SoftTopK`'s.

    k is rounded, so what runs is what pruning will do; the gradient of a fractional k is that of the soft gates.
    Reference: Bengio et al., arXiv 1308.3432; on vision tokens LearnPruner, arXiv 2604.23950.
    """

    removes = True

    def forward(
        self, scores: Float[Tensor, "B N"], mask: Bool[Tensor, "B N"], counts: Float[Tensor, "B"], progress: float
    ) -> Float[Tensor, "B N"]:
        soft = self.soft(scores, mask, counts, progress)
        hard = torch.where(hard_choice(scores, mask, counts), 0.0, SHUT)
        return torch.where(mask, hard + soft - soft.detach(), -torch.inf)
