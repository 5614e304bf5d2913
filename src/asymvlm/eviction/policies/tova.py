"""Attention of the newest row."""

from __future__ import annotations

from torch import Tensor

from ...typing import Float
from ..base import Entries, Evictor


class TOVA(Evictor):
    """Evicts the entry with the least attention from the newest row (TOVA, arXiv 2401.06104).

    Mean over all heads.

    Nothing is protected but the newest entry itself.
    """

    kind = "tova"
    rows = 1

    def __init__(self, sinks: int = 0, recent: int | None = 1) -> None:
        super().__init__(sinks, recent)

    def update(self, entries: Entries, attention: Float[Tensor, "B q K"]) -> None:
        entries.score = attention[:, -1]

    def rank(self, entries: Entries) -> Float[Tensor, "B K"]:
        return entries.score
