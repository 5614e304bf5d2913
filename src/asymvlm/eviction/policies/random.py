"""Random eviction: the control that every policy has to beat."""

from __future__ import annotations

import torch
from torch import Tensor

from ...typing import Float
from ..base import Entries, Evictor, NewEntries

_TABLE = 2**16


class Random(Evictor):
    """Evicts entries at random, by seed and position alone, so that batches do not matter."""

    kind = "random"

    def __init__(self, seed: int = 0, sinks: int = 4, recent: int | None = 16) -> None:
        super().__init__(sinks, recent)
        self._drawn = torch.rand(_TABLE, generator=torch.Generator().manual_seed(seed))

    def initial_score(self, new: NewEntries) -> Float[Tensor, "B q"]:
        self._drawn = self._drawn.to(new.position.device)
        return self._drawn[new.position % _TABLE]

    def rank(self, entries: Entries) -> Float[Tensor, "B K"]:
        return entries.score
