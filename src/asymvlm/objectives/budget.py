"""Terms on the budget head: enough for each sample, and little on average."""

from __future__ import annotations

import torch
from torch import Tensor

from ..typing import Float
from .base import Labels, Objective, Prediction


class BudgetRegression(Objective):
    """Pinball loss on the log keep ratio: fits the `quantile` of the budget target.

    Formula: with e = log(target) - log(predicted), mean of max(q e, (q - 1) e). At q = 0.9 too few
    tokens cost nine times as much as too many, and nine samples in ten get enough.
    Relates to `Sparsity`: the opposite force.
    Reference: Koenker and Bassett, Econometrica 46, 1978.
    """

    needs = frozenset({"target", "budget"})

    def __init__(self, weight: float = 1.0, quantile: float = 0.9) -> None:
        super().__init__(weight)
        if not 0 < quantile < 1:
            raise ValueError(f"quantile: {quantile} must lie strictly between 0 and 1")
        self.quantile = quantile

    def forward(self, prediction: Prediction, labels: Labels) -> Float[Tensor, ""]:
        error = labels.keep.log() - prediction.keep.float().log()
        return torch.maximum(self.quantile * error, (self.quantile - 1) * error).mean()


class Sparsity(Objective):
    """The mean predicted keep ratio, which lowers the budget.

    Formula: mean of the keep ratios, in (0, 1].
    Relates to `BudgetRegression`: a larger weight here trades samples that get enough for tokens
    saved.
    Reference: the ratio terms of Dynamic-LLaVA (ICLR 2025) and LVPruning (arXiv 2501.13652),
    one-sided here.
    """

    needs = frozenset({"budget"})

    def __init__(self, weight: float = 0.1) -> None:
        super().__init__(weight)

    def forward(self, prediction: Prediction, labels: Labels) -> Float[Tensor, ""]:
        return prediction.keep.float().mean()
