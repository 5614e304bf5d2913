"""Another method's scores, less the similarity to tokens already kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..selectors import best
from ..typing import Int64
from .base import Method, Tokens
from .common.similarity import unit_rows


class IDPruner(Method):
    """Maximal marginal relevance on any method's scores (IDPruner, arXiv 2602.13315).

    Takes one by one the token with the highest trade * importance - (1 - trade) * (highest cosine
    with a token taken). Importance is the base's score, moved to [0, 1] per sample; published is it
    with VisionSelector's scorer. O(k N D) time, O(N) memory.

    Args:
        base: The method whose `score` is the importance. When and where it acts, and its budget,
            are its own.
        trade: Weight of the importance, in [0, 1].

    Raises ValueError for a trade out of range.
    """

    kind = "id_pruner"

    def __init__(self, base: Method, trade: float = 0.5) -> None:
        if not 0 <= trade <= 1:
            raise ValueError(
                f"trade: {trade} is not in [0, 1]; 1 is the base's scores alone, 0 diversity alone"
            )
        self.base, self.trade = base, trade
        self.deviations = (
            "importance is the base's score (published: VisionSelector's)",
            *base.deviations,
        )
        self.layer, self.reads_tower = base.layer, base.reads_tower

    def begin(self, samples: Sequence[Any]) -> None:
        self.base.begin(samples)

    def budget(self, tokens: Tokens) -> float:
        return self.base.budget(tokens)

    def select(self, tokens: Tokens, count: int) -> Int64[Tensor, "count"]:
        scores = self.base.score(tokens).float()
        low, high = scores.aminmax()
        importance = (scores - low) / (high - low).clamp_min(torch.finfo(scores.dtype).tiny)
        unit = unit_rows(tokens.vision)
        taken = torch.zeros(len(unit), dtype=torch.bool, device=unit.device)
        said = unit.new_full((len(unit),), -1.0)  # the highest cosine with a token taken
        for _ in range(count):
            worth = self.trade * importance - (1 - self.trade) * said
            new = best(worth.masked_fill(taken, -torch.inf))
            taken[new] = True
            said = torch.maximum(said, unit @ unit[new])
        return taken.nonzero()[:, 0]
