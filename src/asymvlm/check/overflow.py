"""Weights that are numbers, but whose scores can overflow."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import DataError
from .schema import LARGEST_NORM, WEIGHTS_FILE
from .tensor_file import Stored


def check_overflow(config: dict[str, Any], tensors: dict[str, Stored]) -> None:
    """Raise DataError where rows before a LayerNorm can be too long to be squared in fp32.

    Only `cross_attention` has one; elsewhere weights within their limits cannot overflow.
    """
    if config["scorer"]["kind"] != "cross_attention":
        return
    longest = _longest_row(
        {
            name.removeprefix("scorer."): np.abs(
                np.frombuffer(stored.content, "<f4").reshape(stored.shape).astype(np.float64)
            )
            for name, stored in tensors.items()
            if name.startswith("scorer.")
        }
    )
    if longest > LARGEST_NORM:
        raise DataError(
            f"{WEIGHTS_FILE}: the input of scorer.score.0 (LayerNorm) can be of length "
            f"{longest:.3g}, must be at most {LARGEST_NORM:g}; train and export the scorer again"
        )


def _longest_row(size: dict[str, np.ndarray]) -> float:
    """Bound the length of a row before the LayerNorm, from the magnitudes of all weights."""
    width = size["vision.weight"].shape[1]

    def of_unit_rows(name: str) -> np.ndarray:
        lengths = np.linalg.norm(size[f"{name}.weight"], axis=1)
        return width**0.5 * lengths + size[f"{name}.bias"]

    def linear(name: str, rows: np.ndarray) -> np.ndarray:
        return size[f"{name}.weight"] @ rows + size[f"{name}.bias"]

    tokens = of_unit_rows("vision")
    # Attention is a mean of words, and GELU makes nothing larger.
    read = linear("mix", np.maximum(of_unit_rows("text"), size["nothing"]))
    mixed = tokens + linear("mlp.2", linear("mlp.0", np.concatenate([tokens, read, tokens * read])))
    # A token and its neighbours, and its place by sines and cosines.
    seen = size["context.filter.weight"].sum((1, 2, 3)) * mixed + size["context.filter.bias"]
    return float(np.linalg.norm(mixed + seen + size["context.place.weight"].sum(1)))
