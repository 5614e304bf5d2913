"""A control for pages that are mostly paper: the cells with the most contrast."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..selectors import tie_groups
from ..typing import Int64
from .base import Method, Tokens
from .grid import Grid


class NonBlank(Method):
    """Tokens with the highest pixel contrast; of equals evenly spread ones (ours). O(N log N)."""

    kind = "non_blank"

    def select(self, tokens: Tokens, count: int) -> Int64[Tensor, "count"]:
        ink = tokens.pixel_contrast()
        group = tie_groups(ink)
        least = group.sort().values[count - 1]
        more, equal = (group < least).nonzero()[:, 0], (group == least).nonzero()[:, 0]
        spread = Grid().select(replace(tokens, grid=tokens.grid[equal]), count - len(more))
        return torch.cat([more, equal[spread]]).sort().values
