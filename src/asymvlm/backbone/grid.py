"""Picture, row and column of each vision token."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..typing import Int64


def picture_grids(
    config: Any, inputs: Mapping[str, Any], lengths: list[int], kinds: list[str], counts: list[int]
) -> list[Tensor]:
    """Build `[n, 3]` grids per sample from the tokens per picture and their modalities.

    Frames of a video stand below each other. Raises ValueError where pictures and placeholders do
    not add up.
    """
    shapes = _shapes(config, inputs, lengths, kinds)
    grids, picture = [], 0
    for count in counts:
        found: list[Tensor] = []
        held = 0
        while held < count:
            shape, length = shapes[picture], lengths[picture]
            number = len(found)
            found.append(_places(number, *shape) if shape else ordered_places(number, length))
            held += length
            picture += 1
        if held != count:
            raise ValueError(f"input_ids: {count} image placeholders for {held} features")
        grids.append(torch.cat(found) if found else torch.zeros(0, 3, dtype=torch.long))
    return grids


def _shapes(
    config: Any, inputs: Mapping[str, Any], lengths: list[int], kinds: list[str]
) -> list[tuple[int, int] | None]:
    """Rows and columns of each picture's tokens after merging; None where they are no rectangle."""
    merge = getattr(config.vision_config, "spatial_merge_size", 1)
    patches = {
        kind: iter(inputs[name].tolist())
        for kind in set(kinds)
        if inputs.get(name := f"{kind}_grid_thw") is not None
    }
    shapes: list[tuple[int, int] | None] = []
    for length, kind in zip(lengths, kinds, strict=True):
        if kind in patches:
            t, h, w = next(patches[kind])
            shapes.append((t * (h // merge), w // merge))
        else:
            side = math.isqrt(length)
            shapes.append((side, side) if side * side == length else None)
    return shapes


def _places(picture: int, rows: int, columns: int) -> Int64[Tensor, "n 3"]:
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    return torch.stack([torch.full_like(row, picture), row, column], dim=-1).reshape(-1, 3)


def ordered_places(picture: int, count: int) -> Int64[Tensor, "n 3"]:
    """Places of tokens with an order and no position (row -1), as a resampler's."""
    return _places(picture, 1, count) - torch.tensor([0, 1, 0])


def square_places(picture: int, count: int) -> Int64[Tensor, "n 3"]:
    """Places of a CLS (row -1) and a square of patches."""
    side = math.isqrt(count - 1)
    return torch.cat([torch.tensor([[picture, -1, -1]]), _places(picture, side, side)])
