"""Boxes on the page as shares of the cells that vision tokens stand for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..shapes import Float, Int64
from .canvas import Box
from .sample import Sample


def box_shares(box: Box, size: tuple[float, float], shape: tuple[int, int]) -> np.ndarray:
    """Share of each cell's area inside `box`: `[rows, columns]`, for a picture of (width, height) in (rows, columns) cells."""
    (width, height), (rows, columns) = (size[0] / shape[1], size[1] / shape[0]), shape
    x, y = np.arange(columns) * width, np.arange(rows) * height
    across = np.clip(np.minimum(x + width, box[2]) - np.maximum(x, box[0]), 0, None)
    down = np.clip(np.minimum(y + height, box[3]) - np.maximum(y, box[1]), 0, None)
    return down[:, None] * across[None, :] / (width * height)


def token_shares(sample: Sample, boxes: Sequence[Box], grid: Int64[Tensor, "n 3"]) -> Float[Tensor, "n"]:
    """Share of each vision token's cell inside `boxes`, in [0, 1].

    Cells divide the whole picture evenly, as they do wherever the processor scales it as a whole and crops nothing.
    """
    shape = int(grid[:, 1].max()) + 1, int(grid[:, 2].max()) + 1
    total = np.zeros(shape)
    for box in boxes:
        total += box_shares(box, sample.image.size, shape)
    return torch.from_numpy(np.clip(total, 0, 1))[grid[:, 1], grid[:, 2]].float()
