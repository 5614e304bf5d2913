"""Differentiable top-k."""

from __future__ import annotations

from torch import Tensor

from ..typing import Bool, Float
from .base import Gate


class SoftTopK(Gate):
    """Gates between 0 and 1 that sum to k: m_i = sigmoid((s_i + t) / temperature).

    Relates to `StraightThrough`: there is nothing between kept and dropped there, and the gradient
    is only that of this one.
    Reference: VisionSelector, arXiv 2510.16598 (temperature 1, the gap to removal closed by a loss,
    here `objectives.Hardening`).
    """

    def forward(
        self,
        scores: Float[Tensor, "B N"],
        mask: Bool[Tensor, "B N"],
        counts: Float[Tensor, "B"],
        progress: float,
    ) -> Float[Tensor, "B N"]:
        return self.soft(scores, mask, counts, progress)
