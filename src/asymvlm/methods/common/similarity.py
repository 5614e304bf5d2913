"""Cosines between tokens, a block of rows at a time, so that no N x N matrix is made."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from ...typing import Float, Int64

_ROWS = 512


def unit_rows(rows: Float[Tensor, "n D"]) -> Float[Tensor, "n D"]:
    """Scale rows to length one, in fp32, so that their products are cosines."""
    return F.normalize(rows.float(), dim=-1)


def in_blocks(
    rows: Float[Tensor, "a D"], columns: Float[Tensor, "b D"]
) -> Iterator[tuple[slice, Float[Tensor, "block b"]]]:
    """Multiply all rows with all columns, a block of rows at a time."""
    for start in range(0, len(rows), _ROWS):
        part = slice(start, start + _ROWS)
        yield part, rows[part] @ columns.mT


def nearest_other(unit: Float[Tensor, "n D"]) -> Float[Tensor, "n"]:
    """Find each token's highest cosine with another token; -inf where it is the only one."""
    highest = []
    for part, cosine in in_blocks(unit, unit):
        cosine.diagonal(part.start).fill_(-torch.inf)
        highest.append(cosine.amax(1))
    return torch.cat(highest)


def others(total: int, index: Int64[Tensor, "k"]) -> Int64[Tensor, "m"]:
    """List the tokens below `total` that are not in `index`, ascending."""
    left = torch.ones(total, dtype=torch.bool, device=index.device)
    left[index] = False
    return left.nonzero()[:, 0]
