"""AsymVLM's scorer: a diagonal max-similarity of D parameters."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..limits import check_above
from ..typing import Float
from .base import Scorer, TokenBatch, max_over_text, unit


class DiagonalScorer(Scorer):
    """s_i = max_j sum_d w_d v_id t_jd over unit rows v, t (AsymVLM, arXiv 2605.29535, section 3.2).

    With all w equal it is a plain cosine. The size of w is the temperature of the distillation's
    softmax; `scale` is where it starts.
    """

    kind = "diagonal"

    def __init__(self, width: int, scale: float = 10.0) -> None:
        super().__init__(width, scale=scale)
        check_above(0, {"scale": scale})
        self.weight = nn.Parameter(torch.full((width,), scale))

    def forward(self, batch: TokenBatch) -> Float[Tensor, "B N"]:
        similarity = (unit(batch.vision) * self.weight) @ unit(batch.text).mT
        return max_over_text(similarity, batch.text_mask)
