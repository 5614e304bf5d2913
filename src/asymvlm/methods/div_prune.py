"""Tokens as different from each other as possible; blind to the question."""

from __future__ import annotations

import torch
from torch import Tensor

from ..selectors import best
from ..typing import Int64
from .base import Method, Tokens
from .common.similarity import nearest_other, unit_rows


class DivPrune(Method):
    """Max-min diversity, farthest first, by 1 - cosine (DivPrune, arXiv 2503.02175).

    First the token whose nearest neighbour is farthest, then always the one farthest from all that
    are chosen. Of equals the earlier.

    O(N^2 D) time for the first token, O(k N D) for the others; O(N) memory, where the published
    code makes the N x N matrix.
    """

    kind = "div_prune"

    def select(self, tokens: Tokens, count: int) -> Int64[Tensor, "count"]:
        unit = unit_rows(tokens.vision)
        taken = torch.zeros(len(unit), dtype=torch.bool, device=unit.device)
        closest = unit.new_full((len(unit),), -1.0)  # the highest cosine with a token taken
        new = best(-nearest_other(unit))
        for _ in range(count):
            taken[new] = True
            closest = torch.maximum(closest, unit @ unit[new])
            new = best((-closest).masked_fill(taken, -torch.inf))
        return taken.nonzero()[:, 0]
