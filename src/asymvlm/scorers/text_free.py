"""A scorer that does not read the question: for engines without one, and as a control."""

from __future__ import annotations

from torch import Tensor, nn

from ..typing import Float
from .base import Scorer, TokenBatch, unit
from .context import GridContext


class TextFreeScorer(Scorer):
    """s_i = MLP(C(A v)_i), from vision tokens and their neighbours; about D d + 11 d parameters."""

    kind = "text_free"

    def __init__(self, width: int, hidden: int = 64) -> None:
        super().__init__(width, hidden=hidden)
        self.vision = nn.Linear(width, hidden)
        self.context = GridContext(hidden)
        self.score = nn.Sequential(
            nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, 1)
        )

    def forward(self, batch: TokenBatch) -> Float[Tensor, "B N"]:
        tokens = self.vision(self.width**0.5 * unit(batch.vision))
        return self.score(self.context(tokens, batch.grid, batch.vision_mask)).squeeze(-1)
