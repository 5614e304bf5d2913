"""VisionSelector's scorer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..typing import Float
from .base import Scorer, TokenBatch


class VisionSelectorScorer(Scorer):
    """s_i = q_i . mean_j k_j / sqrt(d) with q = Q v, k = K v.

    D D parameters with d = D / 2. Does not read the question.

    The mean over j of q_i . k_j is q_i times the mean of k, so nothing grows with N x N. Starts
    almost at zero, as published: which tokens are kept is first a matter of chance. Source:
    VisionSelector, arXiv 2510.16598 (the paper's LayerNorm is not in what its authors released, nor
    here).
    """

    kind = "vision_selector"

    def __init__(self, width: int, hidden: int | None = None) -> None:
        hidden = max(1, width // 2) if hidden is None else hidden
        super().__init__(width, hidden=hidden)
        self.query = nn.Linear(width, hidden, bias=False)
        self.key = nn.Linear(width, hidden, bias=False)
        for layer in (self.query, self.key):
            nn.init.normal_(layer.weight, std=1e-4)

    def forward(self, batch: TokenBatch) -> Float[Tensor, "B N"]:
        mask = batch.vision_mask[..., None]
        mean = torch.where(mask, self.key(batch.vision), 0.0).sum(1) / mask.sum(1).clamp_min(1)
        return (
            torch.einsum("bnd,bd->bn", self.query(batch.vision), mean) / self.key.out_features**0.5
        )
