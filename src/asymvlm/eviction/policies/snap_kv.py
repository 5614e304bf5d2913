"""Attention of a window of the newest rows, smoothed over neighbours."""

from __future__ import annotations

import torch
from torch import Tensor

from ...limits import check_at_least
from ...typing import Float
from ..base import Entries, Evictor


class SnapKV(Evictor):
    """Evicts the entries with the least attention from the newest rows (arXiv 2404.14469).

    Of the `window` newest rows, smoothed over 5 neighbours; the window itself stays. It is cut off
    first, so that what its rows pay to each other is in no neighbour's mean.

    The paper cuts the prompt down once, head by head; here the window runs on while decoding, so
    that the budget holds for what is written too, and the heads of a layer lose the same entries.
    Neighbours are those held, vision included, in the order they were seen.
    """

    kind = "snap_kv"
    deviations = (
        "the heads of a layer lose the same entries (published: each its own)",
        "the window runs on while decoding (published: the prompt is cut down once)",
    )
    kernel = 5

    def __init__(self, window: int = 32, sinks: int = 0) -> None:
        check_at_least(1, {"window": window})
        super().__init__(sinks, recent=window)
        self.window = self.rows = window

    def update(self, entries: Entries, attention: Float[Tensor, "B q K"]) -> None:
        rows = torch.cat([entries.attention_window, attention.transpose(1, 2)], dim=-1)
        real = rows.amax(1) > 0  # rows of padding are not: they must not push others out
        newest = real.view(torch.uint8).argsort(dim=-1, stable=True)[:, -self.window :]
        entries.attention_window = torch.take_along_dim(rows, newest[:, None], dim=-1)

    def rank(self, entries: Entries) -> Float[Tensor, "B K"]:
        held = entries.position.masked_fill(~entries.valid, -1)
        before = entries.valid & (held <= held.amax(-1, keepdim=True) - self.window)
        mass = entries.attention_window.mean(-1).masked_fill(~before, 0.0)
        by_age = entries.position.masked_fill(~entries.valid, torch.iinfo(torch.int64).max).argsort(
            dim=-1, stable=True
        )
        # Zeros stand behind what is before the window, as at any end that is pooled over.
        smooth = torch.nn.functional.avg_pool1d(
            mass.gather(1, by_age)[:, None], self.kernel, stride=1, padding=self.kernel // 2
        )[:, 0]
        ranks = torch.zeros_like(mass).scatter(1, by_age, smooth)
        # Pictures in the window may leave under a budget of their own, but last.
        return torch.where(before, ranks, ranks.amax(-1, keepdim=True))
