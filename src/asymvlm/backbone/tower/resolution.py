"""Pictures encoded again at a lower resolution."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ...typing import Float
from ..family_spec import family_spec
from .watch import tower_of


def downsampled_features(
    model: Any, arguments: Mapping[str, Any], sample: int, rows: int, columns: int
) -> Float[torch.Tensor, "m D"]:
    """Encode one picture at rows x columns patches, with interpolated position embeddings.

    Raises ValueError for models whose tower takes no other resolution, or merges patches.
    """
    pixels, patch = arguments.get("pixel_values"), model.config.vision_config.patch_size
    if (
        pixels is None
        or pixels.ndim != 4
        or family_spec(model.config).patch_merge is not None
        or not hasattr(model.base_model, "get_image_features")
        or not _interpolates(tower_of(model))
    ):
        raise ValueError(
            f"downsample: the tower of {type(model).__name__} takes no other resolution, or its "
            "patches are not the LLM's tokens; use grid"
        )
    size = (rows * patch, columns * patch)
    small = nn.functional.interpolate(
        pixels[sample : sample + 1].float(),
        size=size,
        mode="bilinear",
        antialias=True,
        align_corners=False,
    )
    changed = {"pixel_values": small.to(pixels.dtype), "interpolate_pos_encoding": True}
    with torch.no_grad():
        return model.base_model.get_image_features(
            **{**arguments, **changed}, return_dict=True
        ).pooler_output[0]


def _interpolates(tower: nn.Module | None) -> bool:
    """Return whether a tower, or its embeddings, can interpolate positions."""
    parts = [] if tower is None else tower.modules()
    return any(
        "interpolate_pos_encoding" in inspect.signature(part.forward).parameters for part in parts
    )
