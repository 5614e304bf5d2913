"""A hard choice with the gradient of a soft one."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..typing import Bool, Float
from .base import Gate, hard_choice

SHUT = -30.0  # log of a shut gate: what is behind it gets 1e-13 of the attention


class StraightThrough(Gate):
    """Forward, the k best tokens' gates are 1 and the others 0; backward as `SoftTopK`.

    k is rounded, so what runs is what pruning will do; the gradient of a fractional k is that of
    the soft gates.

    Straight through the gates, not their logarithms: the derivative by a gate is what opening it a
    little would do to the answer, which is as large for a shut one as for an open one. By its
    logarithm it is that times the gate: what is not chosen would never be missed.
    Reference: Bengio et al., arXiv 1308.3432; on vision tokens LearnPruner, arXiv 2604.23950.
    """

    removes = True

    def forward(
        self,
        scores: Float[Tensor, "B N"],
        mask: Bool[Tensor, "B N"],
        counts: Float[Tensor, "B"],
        progress: float,
    ) -> Float[Tensor, "B N"]:
        soft = self.soft(scores, mask, counts, progress).exp()
        hard = torch.where(hard_choice(scores, mask, counts), 1.0, math.exp(SHUT))
        gates = hard + (soft - soft.detach())  # in this order the difference is exactly 0
        return gates.log().masked_fill(~mask, -torch.inf)
