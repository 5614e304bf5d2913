"""Ranking metrics of scores, as torchmetrics with sum states."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric

from ..typing import Bool, Float


class _MeanOverSamples(Metric):
    """Mean over samples; subclasses give one value per sample, NaN where one does not count."""

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")

    def add(self, values: Float[Tensor, "B"]) -> None:
        finite = torch.isfinite(values)
        self.total += values[finite].double().sum()
        self.count += finite.sum()

    def compute(self) -> Tensor:
        return (self.total / self.count.clamp_min(1)).float()


def _best(
    scores: Float[Tensor, "B N"], mask: Bool[Tensor, "B N"], share: float
) -> Bool[Tensor, "B N"]:
    """Mark each sample's best tokens: a share of its own tokens, at least one."""
    ranks = (
        scores.masked_fill(~mask, -torch.inf)
        .argsort(dim=-1, descending=True, stable=True)
        .argsort(-1)
    )
    count = (mask.sum(-1) * share + 0.5).floor().clamp_min(1)
    return (ranks < count[:, None]) & mask


class MassKept(_MeanOverSamples):
    """Share of the target's mass on the tokens kept at a given share; in [0, 1]."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def update(self, scores: Tensor, importance: Tensor, mask: Tensor) -> None:
        self.add((importance * _best(scores, mask, self.share)).sum(-1) / importance.sum(-1))


class RecallAtShare(_MeanOverSamples):
    """Share of the target's own best tokens that are among the kept ones; in [0, 1]."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def update(self, scores: Tensor, importance: Tensor, mask: Tensor) -> None:
        best = _best(importance, mask, self.share)
        kept = _best(scores, mask, self.share)
        self.add((best & kept).sum(-1) / best.sum(-1).float())


class EvidenceKept(_MeanOverSamples):
    """Share of the evidence that is kept, by area of its boxes.

    Samples without boxes do not count.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def update(self, scores: Tensor, evidence: Tensor, mask: Tensor) -> None:
        self.add((evidence * _best(scores, mask, self.share)).sum(-1) / evidence.sum(-1))


class GainNDCG(_MeanOverSamples):
    """Normalised discounted cumulative gain with the target as gain.

    In [0, 1] (Jarvelin and Kekalainen, TOIS 2002).
    """

    def update(self, scores: Tensor, importance: Tensor, mask: Tensor) -> None:
        discount = 1 / torch.log2(torch.arange(scores.shape[-1], device=scores.device) + 2.0)
        order = scores.masked_fill(~mask, -torch.inf).argsort(dim=-1, descending=True, stable=True)
        gain = (importance.gather(-1, order) * discount).sum(-1)
        best = (importance.sort(-1, descending=True).values * discount).sum(-1)
        self.add(gain / best)


class BudgetCoverage(_MeanOverSamples):
    """Share of samples whose predicted keep ratio is at least the budget target.

    Compare it with the quantile that was trained.
    """

    def update(self, predicted: Tensor, target: Tensor) -> None:
        self.add((predicted >= target - 1e-6).float())


class BudgetError(_MeanOverSamples):
    """Mean absolute error of the keep ratio, in shares."""

    def update(self, predicted: Tensor, target: Tensor) -> None:
        self.add((predicted - target).abs())
