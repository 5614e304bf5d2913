"""Boxes on the page as shares of the cells behind vision tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..typing import Float, Int64
from .sample import Box, Sample


def box_shares(box: Box, size: tuple[float, float], shape: tuple[int, int]) -> np.ndarray:
    """Share of each cell's area in `box`: `[rows, columns]`, for a picture of (width, height)."""
    (width, height), (rows, columns) = (size[0] / shape[1], size[1] / shape[0]), shape
    x, y = np.arange(columns) * width, np.arange(rows) * height
    across = np.clip(np.minimum(x + width, box[2]) - np.maximum(x, box[0]), 0, None)
    down = np.clip(np.minimum(y + height, box[3]) - np.maximum(y, box[1]), 0, None)
    return down[:, None] * across[None, :] / (width * height)


def lies_on_page(sample: Sample, grid: Int64[Tensor, "n 3"]) -> bool:
    """Return whether the grid gives places on the first page: not for tiles and resamplers."""
    return int(grid[:, 0].max()) + 1 == len(sample.images) and bool(
        (grid[grid[:, 0] == 0, 1:] >= 0).all(-1).any()
    )


def token_shares(
    sample: Sample, boxes: Sequence[Box], grid: Int64[Tensor, "n 3"], shown: Box | None = None
) -> Float[Tensor, "n"]:
    """Share of each vision token's cell in `boxes` of the first page; 0 where unknown.

    Cells divide the picture evenly, or `shown`, the part of it that a processor which crops or pads
    gives to the tower.
    """
    shares = torch.zeros(len(grid))
    if not lies_on_page(sample, grid):
        return shares
    first = (grid[:, 0] == 0) & (grid[:, 1:] >= 0).all(-1)
    shape = int(grid[first, 1].max()) + 1, int(grid[first, 2].max()) + 1
    total = np.zeros(shape)
    left, top, right, bottom = shown or (0, 0, *sample.image.size)
    for x0, y0, x1, y1 in boxes:
        box = x0 - left, y0 - top, x1 - left, y1 - top
        total += box_shares(box, (right - left, bottom - top), shape)
    shares[first] = torch.from_numpy(np.clip(total, 0, 1))[grid[first, 1], grid[first, 2]].float()
    return shares
