"""How many vision tokens are enough for a sample."""

from __future__ import annotations

import torch
from torch import Tensor

from ..shapes import Bool, Float


class BudgetTarget:
    """The smallest share of tokens that holds a mass `tau` of the relevance.

    `ranking`: "target" counts along the relevance's own order: what a perfect scorer would need. "scorer" counts along the
    scorer's order of the moment: what this one needs, so that a poor ranking is paid for with tokens.
    """

    def __init__(self, tau: float = 0.9, ranking: str = "scorer") -> None:
        if not 0 < tau <= 1:
            raise ValueError(f"tau: {tau} must lie in (0, 1]")
        if ranking not in ("target", "scorer"):
            raise ValueError(f"ranking: {ranking!r} must be 'target' or 'scorer'")
        self.tau, self.ranking = tau, ranking

    def __call__(self, relevance: Float[Tensor, "B N"], scores: Float[Tensor, "B N"], mask: Bool[Tensor, "B N"]) -> Float[Tensor, "B"]:
        """Shares in (0, 1]; 1 / n at least."""
        order = relevance if self.ranking == "target" else scores.detach()
        ranked = relevance.gather(-1, order.masked_fill(~mask, -torch.inf).argsort(dim=-1, descending=True, stable=True))
        needed = (ranked.cumsum(-1) < self.tau - 1e-6).sum(-1) + 1
        count = mask.sum(-1).clamp_min(1)
        return torch.minimum(needed, count) / count
