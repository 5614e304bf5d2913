"""Evenly spread tokens, as a control."""

from __future__ import annotations

import torch
from torch import Tensor

from ..typing import Int64
from .base import Method, Tokens


def evenly(total: int, count: int) -> Int64[Tensor, "count"]:
    """Choose `count` different indices below `total`, as evenly spread as possible."""
    return ((torch.arange(count) + 0.5) * total / count).floor().long()


class Grid(Method):
    """Tokens evenly spread over every picture, in rows and columns alike.

    Tokens are ordered along a Hilbert-like interleaving of row and column bits (Z-order), so that
    equal steps along the order are about equal areas of the page.
    """

    kind = "grid"

    def select(self, tokens: Tokens, count: int) -> Int64[Tensor, "count"]:
        picture, row, column = tokens.grid.unbind(-1)
        order = torch.argsort(
            picture * 2**40 + (_spread(row.clamp_min(0)) << 1) + _spread(column.clamp_min(0)),
            stable=True,
        )
        return order[evenly(len(order), count).to(order.device)].sort().values


def _spread(number: Int64[Tensor, "n"]) -> Int64[Tensor, "n"]:
    """Move bits to every second place (0b101 to 0b10001), for numbers below 2^16."""
    for shift, mask in ((8, 0x00FF00FF), (4, 0x0F0F0F0F), (2, 0x33333333), (1, 0x55555555)):
        number = (number | (number << shift)) & mask
    return number
