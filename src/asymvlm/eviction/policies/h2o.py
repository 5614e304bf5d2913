"""Heavy hitters: what all rows together have looked at most."""

from __future__ import annotations

from torch import Tensor

from ...typing import Float
from ..base import ALL_ROWS, Entries, Evictor


class H2O(Evictor):
    """The attention an entry got from all rows, prompt included, summed up (H2O, arXiv 2306.14048); half the budget is for the newest.

    The paper chooses for each head by itself; here the heads of a layer lose the same entries, by their mean. Reading the prompt costs
    its attention a second time.
    """

    kind = "h2o"
    rows = ALL_ROWS

    def __init__(self, sinks: int = 0, recent: int | None = None) -> None:
        super().__init__(sinks, recent)

    def update(self, entries: Entries, attention: Float[Tensor, "B q K"]) -> None:
        entries.score = entries.score + attention.sum(1)

    def rank(self, entries: Entries) -> Float[Tensor, "B K"]:
        return entries.score
