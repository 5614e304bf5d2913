"""Pictures of what was kept."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ...documents import Sample
from ...selectors import count_for, top_k
from ...typing import Float, Int64
from .tables import visible


def caption(text: str, longest: int = 60) -> str:
    """Shorten a name for a picture; matplotlib is to be told not to read it as mathematics."""
    line = visible(text)
    return line if len(line) <= longest else line[: longest - 1] + "…"


def heat_map(
    image: Image.Image, grid: Int64[Tensor, "n 3"], weight: Float[Tensor, "n"]
) -> np.ndarray:
    """Draw each token's weight in red over the page in grey; uint8 `[height, width, 3]`."""
    cells = _cells(grid, weight.float() / weight.float().max().clamp_min(1e-12))
    heat = (
        np.asarray(
            Image.fromarray((cells * 255).astype(np.uint8)).resize(
                image.size, Image.Resampling.NEAREST
            )
        )
        / 255.0
    )
    grey = np.asarray(image.convert("L"))[..., None] / 255.0
    strength = (0.85 * np.sqrt(heat))[..., None]
    return ((grey * (1 - strength) + np.array([0.9, 0.1, 0.1]) * strength) * 255).astype(np.uint8)


def rank_weight(scores: Float[Tensor, "n"], count: int) -> Float[Tensor, "n"]:
    """Weight 1 for the best token, falling with the rank to 0 behind the best `count`."""
    order = scores.argsort(descending=True, stable=True)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device)
    return (1 - rank / count).clamp_min(0)


def kept_map(
    image: Image.Image, grid: Int64[Tensor, "n 3"], kept: Int64[Tensor, "k"]
) -> np.ndarray:
    """Fade out everything that was dropped."""
    flags = torch.zeros(len(grid))
    flags[kept] = 1
    cells = (_cells(grid, flags) * 255).astype(np.uint8)
    shown = (
        np.asarray(Image.fromarray(cells).resize(image.size, Image.Resampling.NEAREST))[..., None]
        / 255.0
    )
    pixels = np.asarray(image.convert("RGB")).astype(np.float32)
    return (pixels * shown + (pixels * 0.12 + 200) * (1 - shown)).clip(0, 255).astype(np.uint8)


def draw_boxes(sample: Sample) -> Image.Image:
    """Draw evidence boxes in red and key boxes in blue."""
    image = sample.image.convert("RGB").copy()
    pen = ImageDraw.Draw(image)
    width = max(1, max(image.size) // 300)
    for boxes, colour in (
        (sample.key_boxes, (40, 80, 230)),
        (sample.evidence_boxes, (230, 30, 30)),
    ):
        for x0, y0, x1, y1 in boxes:
            pen.rectangle((x0 - 2, y0 - 2, x1 + 2, y1 + 2), outline=colour, width=width)
    return image


def page_panels(
    image: Image.Image, grid: Tensor, importance: Tensor, scores: Tensor, keep: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Draw page, target, prediction, and what a share of `keep` leaves."""
    kept = top_k(scores, count_for(keep, len(scores)))
    return (
        np.asarray(image.convert("RGB")),
        heat_map(image, grid, importance),
        heat_map(image, grid, scores.float().softmax(-1)),
        kept_map(image, grid, kept),
    )


def _cells(grid: Tensor, weight: Tensor) -> np.ndarray:
    """Arrange the first picture's weights in rows and columns.

    One cell where places are unknown.
    """
    first = (grid[:, 0] == 0) & (grid[:, 1:] >= 0).all(-1)
    if not bool(first.any()):
        return np.zeros((1, 1), np.float32)
    rows, columns = grid[first, 1].cpu(), grid[first, 2].cpu()
    cells = np.zeros((int(rows.max()) + 1, int(columns.max()) + 1), np.float32)
    cells[rows.numpy(), columns.numpy()] = weight[first].cpu().numpy()
    return cells
