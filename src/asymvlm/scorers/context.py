"""Looking at a token's neighbours on the page."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..shapes import Bool, Float, Int64


class GridContext(nn.Module):
    """A residual 3x3 depthwise convolution on the token grid; pictures of any size, several per sample.

    Tokens are laid out on one map per picture, at their row and column. A token that is on no map (a row's end mark, say)
    has a negative row or column; it is left as it is and lends nothing to others.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.filter = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        nn.init.normal_(self.filter.weight, std=0.02)
        assert self.filter.bias is not None
        nn.init.zeros_(self.filter.bias)

    def forward(self, tokens: Float[Tensor, "B N C"], grid: Int64[Tensor, "B N 3"], mask: Bool[Tensor, "B N"]) -> Float[Tensor, "B N C"]:
        placed = mask & (grid[..., 1:] >= 0).all(-1)
        if not placed.any():
            return tokens
        sample, slot = placed.nonzero(as_tuple=True)
        picture, row, column = grid[sample, slot].unbind(-1)
        pictures, rows, columns = (int(place.max()) + 1 for place in (picture, row, column))
        where = (sample * pictures + picture, row, column)
        maps = tokens.new_zeros(tokens.shape[0] * pictures, rows, columns, tokens.shape[-1])
        maps = maps.index_put(where, tokens[sample, slot])
        seen = self.filter(maps.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)[where]
        return tokens + torch.zeros_like(tokens).index_put((sample, slot), seen.to(tokens.dtype))
