"""Heavy hitters: the attention of all rows, summed up."""

from __future__ import annotations

from torch import Tensor

from ...typing import Float
from ..base import ALL_ROWS, Entries, Evictor


class H2O(Evictor):
    """Evicts the entries with the least attention from all rows so far (H2O, arXiv 2306.14048).

    The prompt's rows count too; half the budget is for the newest entries.

    The paper chooses for each head by itself; here the heads of a layer lose the same entries, by
    their mean. Reading the prompt costs its attention a second time.
    """

    kind = "h2o"
    deviations = ("the heads of a layer lose the same entries (published: each its own)",)
    rows = ALL_ROWS

    def __init__(self, sinks: int = 0, recent: int | None = None) -> None:
        super().__init__(sinks, recent)

    def update(self, entries: Entries, attention: Float[Tensor, "B q K"]) -> None:
        entries.score = entries.score + attention.sum(1)

    def rank(self, entries: Entries) -> Float[Tensor, "B K"]:
        return entries.score
