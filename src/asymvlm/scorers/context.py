"""A token's place on the page, and its neighbours."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..typing import Bool, Float, Int64

_WAVES = 3  # half waves per axis: 1, 2, 3 over the picture


class GridContext(nn.Module):
    """A 3x3 depthwise convolution on the token grid and a code of each token's place.

    Tokens are laid out on one map per picture, at their row and column; pictures of any size,
    several per sample. A token that is on no map (a row's end mark, say) has a negative row or
    column; it is left as it is and lends nothing to others. The place is relative to the picture's
    own rows and columns, so that it means the same at every resolution.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.filter = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.place = nn.Linear(4 * _WAVES, channels, bias=False)
        nn.init.normal_(self.filter.weight, std=0.02)
        assert self.filter.bias is not None
        nn.init.zeros_(self.filter.bias)
        nn.init.zeros_(self.place.weight)

    def forward(
        self,
        tokens: Float[Tensor, "B N C"],
        grid: Int64[Tensor, "B N 3"],
        mask: Bool[Tensor, "B N"],
    ) -> Float[Tensor, "B N C"]:
        placed = mask & (grid[..., 1:] >= 0).all(-1)
        if not placed.any():
            return tokens
        sample, slot = placed.nonzero(as_tuple=True)
        picture, row, column = grid[sample, slot].unbind(-1)
        pictures, rows, columns = (int(place.max()) + 1 for place in (picture, row, column))
        number = sample * pictures + picture
        maps = tokens.new_zeros(tokens.shape[0] * pictures, rows, columns, tokens.shape[-1])
        maps = maps.index_put((number, row, column), tokens[sample, slot])
        seen = self.filter(maps.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)[number, row, column]
        seen = seen + self.place(_place_code(number, row, column).to(seen))
        return tokens + torch.zeros_like(tokens).index_put((sample, slot), seen.to(tokens.dtype))


def _place_code(
    number: Int64[Tensor, "T"], row: Int64[Tensor, "T"], column: Int64[Tensor, "T"]
) -> Float[Tensor, "T W"]:
    """sin and cos of whole half waves over each picture's height, then over its width."""
    codes = []
    for place in (row, column):
        last = place.new_zeros(int(number.max()) + 1).scatter_reduce(0, number, place, "amax")
        share = (place + 0.5) / (last[number] + 1)
        angles = math.pi * share[:, None] * torch.arange(1, _WAVES + 1, device=place.device)
        codes += [angles.sin(), angles.cos()]
    return torch.cat(codes, dim=-1)
