"""A term on the order of the best tokens."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..limits import check_at_least
from ..typing import Float
from .base import Labels, Objective, Prediction


class Ranking(Objective):
    """Pairwise logistic loss between the target's best tokens and the others.

    Pairs are weighted by the target.

    Formula: for the `best` tokens i of highest target p and every other token j with p_j < p_i, the
    mean over i (weighted by p_i) and j of softplus(margin - (s_i - s_j)).
    Relates to `Distillation`: insensitive to the scale of the tail, so that a token which must be
    kept is above those which need not be, whatever mass they carry.
    Reference: RankNet, Burges et al., ICML 2005.
    """

    needs = frozenset({"target"})

    def __init__(self, weight: float = 0.1, best: int = 16, margin: float = 1.0) -> None:
        super().__init__(weight)
        check_at_least(1, {"best": best})
        check_at_least(0, {"margin": margin})
        self.best = best
        self.margin = margin

    def forward(self, prediction: Prediction, labels: Labels) -> Float[Tensor, ""]:
        scores, p = prediction.scores.float(), labels.importance
        best = p.topk(min(self.best, p.shape[-1]), dim=-1)
        chosen = scores.gather(-1, best.indices)
        below = (p[:, None, :] < best.values[:, :, None]) & labels.vision_mask[:, None, :]
        losses = F.softplus(self.margin - (chosen[:, :, None] - scores[:, None, :]))
        per_token = (losses * below).sum(-1) / below.sum(-1).clamp_min(1)
        share = best.values / best.values.sum(-1, keepdim=True).clamp_min(torch.finfo(p.dtype).tiny)
        return (share * per_token).sum(-1).mean()
