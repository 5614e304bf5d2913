"""MACs of the vision tower and the projector."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from math import prod
from typing import Any, NamedTuple

Grid = tuple[int, int, int]  # frames, rows and columns of patches: a line of `image_grid_thw`


class EncodedPicture(NamedTuple):
    """One picture behind the tower."""

    macs: int
    states: int  # how many come out: one per patch, and CLS where there is one


def vision_macs(config: Any, pictures: int | Iterable[Iterable[int]]) -> tuple[int, int]:
    """Count the MACs of tower and projector over all `pictures`, with all layers run.

    Args:
        config: Of the whole model.
        pictures: How many pictures or tiles, where the tower sees all at one size; their
            `image_grid_thw` where it does not.

    Raises ValueError for a tower or a family that is not covered, and for pictures that are given
    in the other way.
    """
    vision = config.vision_config
    # Of the class: some checkpoints and some versions give the whole model's type to its vision
    # config.
    tower, family = type(vision).model_type, type(config).model_type
    if tower not in _TOWERS:
        raise ValueError(
            f"cost: the tower {tower!r} of {family!r} is not covered; covered are "
            f"{', '.join(_TOWERS)}"
        )
    if family not in _PROJECTORS:
        raise ValueError(
            f"cost: the projector of {family!r} is not covered; covered are "
            f"{', '.join(_PROJECTORS)}"
        )
    one_size = hasattr(vision, "image_size")
    if one_size != isinstance(pictures, int):
        hint = (
            "how many pictures or tiles there are"
            if one_size
            else "their image_grid_thw: (t, h, w) in patches for each"
        )
        raise ValueError(f"pictures: {pictures!r} does not fit the tower {tower!r}; give {hint}")
    grids = (
        [_own_grid(vision)] * pictures
        if isinstance(pictures, int)
        else [(int(t), int(h), int(w)) for t, h, w in pictures]
    )
    encoded = [_TOWERS[tower](vision, grid) for grid in grids]
    return sum(item.macs for item in encoded), sum(
        _PROJECTORS[family](config, item.states) for item in encoded
    )


def _own_grid(vision: Any) -> Grid:
    (height, width), (rows, columns) = _sides(vision.image_size), _sides(vision.patch_size)
    return 1, height // rows, width // columns


def _sides(size: int | Iterable[int]) -> tuple[int, ...]:
    return (size, size) if isinstance(size, int) else tuple(size)


def _blocks(layers: int, states: int, width: int, mlp: int, pairs: int) -> int:
    """Count transformer layers: four projections, an MLP of `mlp` MACs, attention over `pairs`."""
    return layers * states * (4 * width**2 + mlp) + 2 * pairs * width


def _vit(vision: Any, grid: Grid, cls: int = 0) -> EncodedPicture:
    """CLIP, SigLIP and their like, with `cls` further states."""
    patches, width, layers = prod(grid), vision.hidden_size, vision.num_hidden_layers
    states = patches + cls
    embedding = patches * width * vision.num_channels * prod(_sides(vision.patch_size))
    mlp = 2 * width * vision.intermediate_size
    # SigLIP's pooling: one query looks at all states; VLMs do not read what comes out, but it runs.
    pooling = (
        (2 + 2 * states) * width**2 + 2 * states * width + mlp
        if getattr(vision, "vision_use_head", False)
        else 0
    )
    return EncodedPicture(
        embedding + _blocks(layers, states, width, mlp, layers * states**2) + pooling, states
    )


def _qwen2_vl(vision: Any, grid: Grid) -> EncodedPicture:
    width = vision.embed_dim
    return _qwen(
        vision,
        grid,
        width,
        2 * width * int(width * vision.mlp_ratio),
        vision.depth * _frame_pairs(grid),
    )


def _qwen2_5_vl(vision: Any, grid: Grid) -> EncodedPicture:
    """Most layers attend within windows, those at the lower and right edges smaller."""
    frames, rows, columns = grid
    side = (
        vision.window_size
        // (vision.patch_size * vision.spatial_merge_size)
        * vision.spatial_merge_size
    )
    full = sum(index < vision.depth for index in vision.fullatt_block_indexes)
    windowed = frames * _window_pairs(rows, side) * _window_pairs(columns, side)
    pairs = full * _frame_pairs(grid) + (vision.depth - full) * windowed
    return _qwen(
        vision, grid, vision.hidden_size, 3 * vision.hidden_size * vision.intermediate_size, pairs
    )


def _qwen3_vl(vision: Any, grid: Grid) -> EncodedPicture:
    return _qwen(
        vision,
        grid,
        vision.hidden_size,
        2 * vision.hidden_size * vision.intermediate_size,
        vision.depth * _frame_pairs(grid),
    )


def _qwen(vision: Any, grid: Grid, width: int, mlp: int, pairs: int) -> EncodedPicture:
    patches = prod(grid)
    embedding = (
        patches * width * vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
    )
    return EncodedPicture(embedding + _blocks(vision.depth, patches, width, mlp, pairs), patches)


def _frame_pairs(grid: Grid) -> int:
    """Patches attend within their frame."""
    frames, rows, columns = grid
    return frames * (rows * columns) ** 2


def _window_pairs(length: int, side: int) -> int:
    """Pairs along one axis that is cut into windows of `side`, the last one of what is left."""
    whole, rest = divmod(length, side)
    return whole * side**2 + rest**2


def _llava(config: Any, states: int) -> int:
    """MACs of two layers on every state, as wide as the feature layers together."""
    layers, out = config.vision_feature_layer, config.get_text_config().hidden_size
    width = config.vision_config.hidden_size * (1 if isinstance(layers, int) else len(layers))
    return _without_first(config, states) * (width * out + out**2)


def _without_first(config: Any, states: int) -> int:
    """The strategy "default" leaves the first state out, CLS or not."""
    return states - (config.vision_feature_select_strategy == "default")


def _internvl(config: Any, states: int) -> int:
    """Two layers on blocks of patches side by side."""
    block, out = int(1 / config.downsample_ratio) ** 2, config.get_text_config().hidden_size
    tokens = _without_first(config, states) // block
    return tokens * (block * config.vision_config.hidden_size * out + out**2)


def _idefics3(config: Any, states: int) -> int:
    """One layer on blocks of patches side by side."""
    block = config.scale_factor**2
    return (
        states
        // block
        * block
        * config.vision_config.hidden_size
        * config.get_text_config().hidden_size
    )


def _gemma3(config: Any, states: int) -> int:
    """One layer on averages of patches, as many for every picture."""
    return (
        config.mm_tokens_per_image
        * config.vision_config.hidden_size
        * config.get_text_config().hidden_size
    )


def _paligemma(config: Any, states: int) -> int:
    return states * config.vision_config.hidden_size * config.vision_config.projection_dim


def _qwen2_vl_merger(config: Any, states: int) -> int:
    return _merger(
        config.vision_config,
        states,
        config.vision_config.embed_dim,
        config.vision_config.hidden_size,
    )


def _qwen2_5_vl_merger(config: Any, states: int) -> int:
    return _merger(
        config.vision_config,
        states,
        config.vision_config.hidden_size,
        config.vision_config.out_hidden_size,
    )


def _qwen3_vl_merger(config: Any, states: int) -> int:
    """MACs of one merger for the tower's last layer, and one for each deepstack layer."""
    return (1 + len(config.vision_config.deepstack_visual_indexes)) * _qwen2_5_vl_merger(
        config, states
    )


def _merger(vision: Any, states: int, width: int, out: int) -> int:
    """Two layers on blocks of patches side by side, the first as wide as a block."""
    block = vision.spatial_merge_size**2
    return states // block * ((block * width) ** 2 + block * width * out)


_TOWERS: dict[str, Callable[[Any, Grid], EncodedPicture]] = {
    "clip_vision_model": partial(_vit, cls=1),
    "siglip_vision_model": _vit,
    "idefics3_vision": _vit,
    "smolvlm_vision": _vit,
    "internvl_vision": partial(_vit, cls=1),
    "qwen2_vl_vision": _qwen2_vl,
    "qwen2_5_vl_vision": _qwen2_5_vl,
    "qwen3_vl_vision": _qwen3_vl,
}
# By the whole model's type: SigLIP stands before several kinds.
_PROJECTORS: dict[str, Callable[[Any, int], int]] = {
    "llava": _llava,
    "llava_next": _llava,
    "llava_onevision": _llava,
    "idefics3": _idefics3,
    "smolvlm": _idefics3,
    "internvl": _internvl,
    "gemma3": _gemma3,
    "paligemma": _paligemma,
    "qwen2_vl": _qwen2_vl_merger,
    "qwen2_5_vl": _qwen2_5_vl_merger,
    "qwen3_vl": _qwen3_vl_merger,
}
