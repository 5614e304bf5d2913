"""The number of vision tokens that a sample needs."""

from __future__ import annotations

import torch
from torch import Tensor

from ..typing import Bool, Float


class BudgetTarget:
    """The smallest share of tokens that holds mass `tau`, or keeps the teacher's answer.

    `ranking`: "target" counts along the importance's own order: what a perfect scorer would need.
    "scorer" counts along the scorer's order of the moment: what this one needs, so that a poor
    ranking is paid for with tokens. `ladder`: shares at which the teacher is asked
    (`asymvlm.targets.dense_answer_shares`): the smallest one from which on it gives its own dense
    answer is then the target, and `tau` and `ranking` are not used. Costs a generation per share
    and sample.
    """

    def __init__(
        self, tau: float = 0.9, ranking: str = "scorer", ladder: list[float] | None = None
    ) -> None:
        if not 0 < tau <= 1:
            raise ValueError(f"tau: {tau} must lie in (0, 1]")
        if ranking not in ("target", "scorer"):
            raise ValueError(f"ranking: {ranking!r} must be 'target' or 'scorer'")
        if ladder is not None and not (ladder and all(0 < share <= 1 for share in ladder)):
            raise ValueError(f"ladder: {ladder} must hold shares in (0, 1]")
        self.tau, self.ranking, self.ladder = tau, ranking, ladder

    def __call__(
        self,
        importance: Float[Tensor, "B N"],
        scores: Float[Tensor, "B N"],
        mask: Bool[Tensor, "B N"],
        dense_answer_shares: Float[Tensor, "B"],
    ) -> Float[Tensor, "B"]:
        """Compute shares in (0, 1], at least 1 / n."""
        if self.ladder is not None:
            if not bool(torch.isfinite(dense_answer_shares).all()):
                raise ValueError(
                    "ladder: these samples were observed without it; delete the target cache"
                )
            return dense_answer_shares
        order = importance if self.ranking == "target" else scores.detach()
        ranked = importance.gather(
            -1, order.masked_fill(~mask, -torch.inf).argsort(dim=-1, descending=True, stable=True)
        )
        needed = (ranked.cumsum(-1) < self.tau - 1e-6).sum(-1) + 1
        count = mask.sum(-1).clamp_min(1)
        return torch.minimum(needed, count) / count
