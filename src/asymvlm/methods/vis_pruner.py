"""Tokens that the tower attends to, and the least alike of the rest."""

from __future__ import annotations

import torch
from torch import Tensor

from ..selectors import rank
from ..typing import Int64
from .base import Method, Tokens
from .common.similarity import in_blocks, unit_rows

_AT_A_TIME = 8


class VisPruner(Method):
    """CLS attention for a part, the rest without duplicates (VisPruner, arXiv 2412.01818).

    The rest, by falling attention, is split into even and odd places. The even tokens that are most
    similar to an odd one are removed, eight at a time at most, until as many are left as are
    wanted. The next split is, as in the published code, of the even tokens left, the most similar
    ones first, followed by the odd ones. Similarity is the cosine of what the tower gives, before
    the projector.

    O(N) rounds of O(N^2 E) time and O(N) memory; the published code makes the whole matrix of a
    round.

    Args:
        important: Share of the tokens kept that attention chooses, rounded down.

    Raises ValueError for a share out of range.
    """

    kind = "vis_pruner"
    reads_tower = True

    def __init__(self, important: float = 0.5) -> None:
        if not 0 <= important < 1:
            raise ValueError(
                f"important: {important} is not in [0, 1); choose cls_attention to keep important "
                "tokens alone"
            )
        self.important = important

    def select(self, tokens: Tokens, count: int) -> Int64[Tensor, "count"]:
        tower = tokens.tower()
        unit = unit_rows(tower.states)
        ranked = rank(tower.attention.float())
        chosen = int(count * self.important)
        important, rest = ranked[:chosen], ranked[chosen:]
        while (excess := len(rest) - (count - chosen)) > 0:
            even, odd = rest[::2], rest[1::2]
            closest = torch.cat([cosine.amax(1) for _, cosine in in_blocks(unit[even], unit[odd])])
            distinct = rank(closest)[min(_AT_A_TIME, excess) :]
            rest = torch.cat([even[distinct], odd])
        return torch.cat([important, rest]).sort().values
