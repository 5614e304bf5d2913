"""A low-rank bilinear scorer with grid context."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..typing import Float
from .base import Scorer, TokenBatch, max_over_text, unit
from .context import GridContext


class LowRankScorer(Scorer):
    """s_i = max_j <C(A v)_i, B t_j> + b(C(A v)_i).

    A, B of `rank` rows, C a 3x3 context on the grid.

    The full-matrix generalisation of the diagonal form, factored: 2 R D + 12 R + 1 parameters, 0.4
    M at D = 4096, R = 48. The second term does not read the text: where ink is, and all of the
    score where no text is left.
    """

    kind = "low_rank"

    def __init__(self, width: int, rank: int = 48) -> None:
        super().__init__(width, rank=rank)
        self.vision = nn.Linear(width, rank, bias=False)
        self.text = nn.Linear(width, rank, bias=False)
        self.context = GridContext(rank)
        self.prior = nn.Linear(rank, 1)
        # Start as a random projection of the cosine: <A v, A t> = scale * cos(v, t) in expectation.
        scale = 10.0
        with torch.no_grad():
            nn.init.normal_(self.vision.weight, std=(scale / rank) ** 0.5)
            self.text.weight.copy_(self.vision.weight)
            nn.init.zeros_(self.prior.weight)
            nn.init.zeros_(self.prior.bias)

    def forward(self, batch: TokenBatch) -> Float[Tensor, "B N"]:
        tokens = self.context(self.vision(unit(batch.vision)), batch.grid, batch.vision_mask)
        similarity = tokens @ self.text(unit(batch.text)).mT
        return max_over_text(similarity, batch.text_mask) + self.prior(tokens).squeeze(-1)
