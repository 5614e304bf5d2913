"""Contrast of the pixels behind each vision token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...typing import Float
from ..family_spec import family_spec
from .patch_merging import Patches, on_tokens


def token_contrast(model: Any, inputs: Mapping[str, Any], count: int) -> Float[Tensor, "T"]:
    """Standard deviation of the pixels in each token's patches, as the model normalises them.

    Raises ValueError for several modalities at once, and where patches become tokens in a way that
    is not known.
    """
    given = [
        inputs[name]
        for name in ("pixel_values", "pixel_values_videos")
        if inputs.get(name) is not None
    ]
    if len(given) != 1:
        raise ValueError(
            "pixel_values: the ink of pictures and videos in one batch is not told apart; give one "
            "kind"
        )
    size = model.config.vision_config.patch_size
    values = _of_patches(given[0].float(), size if isinstance(size, int) else size[0])
    merge = family_spec(model.config).patch_merge
    # Where the processor cuts the picture into patches, their order is still the picture's own.
    patches = Patches([values[..., None]], None, inputs, None)
    return on_tokens(patches, "runs" if merge == "windows" else merge, count)[:, 0]


def _of_patches(pixels: Float[Tensor, "..."], size: int) -> Float[Tensor, "pictures p"]:
    if pixels.ndim == 2:  # [patches, values]
        return pixels.std(-1)[None]
    flat = pixels.flatten(0, -4)
    return torch.nn.functional.unfold(flat, size, stride=size).std(1)
