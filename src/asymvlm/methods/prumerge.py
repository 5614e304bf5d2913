"""Outliers of the tower's attention and an even spread, with neighbours fused in."""

from __future__ import annotations

import torch
from torch import Tensor

from ..selectors import rank, top_k
from ..typing import Float, Int64
from .prumerge_plain import PruMerge


class PruMergePlus(PruMerge):
    """PruMerge with evenly spaced tokens beside the top ones (PruMerge+, arXiv 2403.15388).

    Fused as `PruMerge` does, and with its options. `keep="auto"` is the published choice: n
    outliers of N tokens, every s-th token from the first to the last but one, where s is a third of
    N / n, both rounded down, and the appended token.

    That rule has few counts. Under another one the spacing is the densest at which the rule's
    fewest top tokens still fit, and the places left over go to further tokens by attention.
    """

    kind = "prumerge_plus"

    def __init__(self, before_projector: bool = True) -> None:
        super().__init__(before_projector)
        self.deviations += ("counts that the published rule has not are filled up by attention",)

    def themselves(self, attention: Float[Tensor, "n"], count: int) -> Int64[Tensor, "count"]:
        published = self.published(attention)
        if len(published) == count:
            return published
        total, ranked = len(attention), rank(attention)
        for step in range(-(-(total - 1) // max(count, 1)), total):
            spaced = _spaced(attention, step)
            # The fewest top tokens of which floor(floor(N / n) / 3) is `step`.
            spaced[ranked[: total // (3 * step + 3) + 1]] = True
            if int(spaced.sum()) <= count:
                spaced = _spaced(attention, step)
                return top_k(attention.masked_fill(spaced, torch.inf), count)
        return top_k(attention, count)

    def published(self, attention: Float[Tensor, "n"]) -> Int64[Tensor, "k"]:
        top = super().published(attention)
        if len(top) == 0:
            return top
        chosen = _spaced(attention, max(1, len(attention) // len(top) // 3))
        chosen[top] = True
        return chosen.nonzero()[:, 0]


def _spaced(attention: Float[Tensor, "n"], step: int) -> Tensor:
    """Mark every `step`-th token up to the last but one."""
    chosen = torch.zeros_like(attention, dtype=torch.bool)
    chosen[: len(attention) - 1 : step] = True
    return chosen
