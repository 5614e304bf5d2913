"""Fewer pixels instead of fewer tokens: a control that many compressors lose to."""

from __future__ import annotations

from torch import Tensor

from ..typing import Float, Int64
from .base import Method, Tokens
from .grid import evenly


class Downsample(Method):
    """The picture at a lower resolution, at exactly as many tokens (VTC-Bench, arXiv 2510.07143).

    The coarse grid is the one of at most `count` cells that is nearest to it and not more than
    twice as long as wide; what is missing to `count` keeps its full-resolution feature. Single
    pictures only.
    """

    kind = "downsample"

    def select(self, tokens: Tokens, count: int) -> Int64[Tensor, "count"]:
        return evenly(len(tokens.vision), count).to(tokens.vision.device)

    def merge(self, tokens: Tokens, kept: Int64[Tensor, "k"]) -> Float[Tensor, "k D"]:
        if int(tokens.grid[:, 0].max()) > 0 or int(tokens.grid.min()) < 0:
            raise ValueError(
                "downsample: samples with several pictures, tiles or a resampler are not "
                "supported; use grid"
            )
        rows, columns = coarse_shape(
            len(kept), int(tokens.grid[:, 1].max()) + 1, int(tokens.grid[:, 2].max()) + 1
        )
        features = tokens.vision[kept].clone()
        if rows * columns == len(tokens.vision):
            return features
        coarse = tokens.at_resolution(rows, columns)
        features[evenly(len(kept), len(coarse)).to(kept.device)] = coarse.to(features.dtype)
        return features


def coarse_shape(count: int, rows: int, columns: int) -> tuple[int, int]:
    """Find the largest (rows, columns) with at most `count` cells.

    Its aspect is within twice the picture's.
    """
    if count >= rows * columns:
        return rows, columns
    best = (1, 1)
    for down in range(1, count + 1):
        across = count // down
        stretch = (down / rows) / (across / columns)
        if 0.5 <= stretch <= 2.0 and down * across > best[0] * best[1]:
            best = (down, across)
    return best
