"""Values per patch of the tower, merged into values per token of the LLM."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.vision_utils import get_vision_window_index

from ...typing import Float
from .resampler_attention import ResamplerWatcher


@dataclass
class Patches:
    """One value per patch of a batch, and what it takes to bring it onto the tokens."""

    # An entry per call of the watched layer: some towers attend picture by picture.
    values: list[Float[Tensor, "pictures p C"]]
    tower: Any
    inputs: Mapping[str, Any]
    # The model's own packing of tiles, where it has one.
    pack: Callable[[Tensor], Tensor] | None = None
    resampler: ResamplerWatcher | None = None

    @property
    def flat(self) -> Float[Tensor, "P C"]:
        return torch.cat([value.flatten(0, 1) for value in self.values])


def on_tokens(patches: Patches, merge: str | None, count: int) -> Float[Tensor, "T C"]:
    """Average over the patches that are merged into each of `count` LLM tokens.

    `merge` is one of `_MERGES`; None stands for patches that are tokens themselves. Raises
    ValueError where the patches do not make up the tokens.
    """
    flat = patches.flat
    merged = flat if merge is None else _MERGES[merge](patches, count)
    if merged is None or len(merged) != count:
        raise ValueError(
            f"{count} vision tokens are made of {len(flat)} patches, not one by one: the tower's "
            "attention is not about the LLM's tokens"
        )
    return merged


def _in_blocks(patches: Patches, count: int) -> Tensor | None:
    """Merge squares of a square grid: pixel shuffle, pooling."""
    total = len(patches.flat)
    side = math.isqrt(total // max(1, count))
    if count * side * side != total:
        return None
    return torch.cat([_pool(value, side) for value in patches.values])


def _pool(value: Float[Tensor, "pictures p C"], side: int) -> Float[Tensor, "m C"]:
    rows = math.isqrt(value.shape[1])
    return (
        nn.functional.avg_pool2d(value.mT.unflatten(-1, (rows, rows)), side)
        .flatten(2)
        .mT.flatten(0, 1)
    )


def _in_runs(patches: Patches, count: int) -> Tensor | None:
    """Merge consecutive patches: the processor puts those of a block side by side."""
    flat = patches.flat
    return flat.unflatten(0, (count, -1)).mean(1) if count and len(flat) % count == 0 else None


def _in_windows(patches: Patches, count: int) -> Tensor | None:
    """Merge runs after the tower has reordered blocks by attention window."""
    runs = _in_runs(patches, count)
    tower = patches.tower
    grids = [
        patches.inputs[name]
        for name in ("image_grid_thw", "video_grid_thw")
        if patches.inputs.get(name) is not None
    ]
    if runs is None or not grids:
        return None
    order, _ = get_vision_window_index(
        grids[0], tower.spatial_merge_size, tower.window_size, tower.patch_size
    )
    return runs[order.argsort().to(runs.device)]


def _packed(patches: Patches, count: int) -> Tensor | None:
    """Lay tiles side by side and unpad them; the newline token of each row gets 0."""
    return None if patches.pack is None else patches.pack(torch.cat(patches.values))


def _resampled(patches: Patches, count: int) -> Tensor | None:
    """Weight patches by the attention of the resampler's last layer."""
    if patches.resampler is None:
        return None
    values = torch.cat(patches.values)
    return (patches.resampler.weights(values.shape[1]) @ values.float()).flatten(0, 1)


_MERGES: dict[str, Callable[[Patches, int], Tensor | None]] = {
    "blocks": _in_blocks,
    "runs": _in_runs,
    "windows": _in_windows,
    "packed": _packed,
    "resampled": _resampled,
}
