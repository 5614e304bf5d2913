"""What can be asked of the vision tower itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from ..shapes import Float

_NAME = "asymvlm_tower"
_WATCHER = "asymvlm_watcher"


class TowerWatcher:
    """Notes what each patch receives at one layer: from CLS where there is one, else on average over all rows; mean over heads."""

    def __init__(self, has_cls: bool) -> None:
        self.has_cls = has_cls
        self.received: Float[Tensor, "pictures n"] | None = None

    def note(self, query: Tensor, key: Tensor, scaling: float | None) -> None:
        """Called by the attention function; `query` and `key` are `[pictures, heads, patches, d]`."""
        rows = query[:, :, :1] if self.has_cls else query
        mass = (rows @ key.mT * (scaling or query.shape[-1] ** -0.5)).float().softmax(-1).mean((1, 2))
        self.received = mass[:, 1:] if self.has_cls else mass


def _attention(module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **kwargs: Any) -> tuple[Tensor, None]:
    watcher: TowerWatcher | None = getattr(module, _WATCHER, None)
    if watcher is not None:
        watcher.note(query, key, kwargs.get("scaling"))
    return sdpa_attention_forward(module, query, key, value, mask, **kwargs)


@contextmanager
def watching(model: Any) -> Iterator[TowerWatcher]:
    """While open, encoding pictures fills the watcher, at the cost of one attention row.

    Raises ValueError for families whose tower is not laid out as CLIP's.
    """
    if _NAME not in AttentionInterface._global_mapping:
        AttentionInterface.register(_NAME, _attention)
        AttentionMaskInterface.register(_NAME, sdpa_mask)
    tower = getattr(model.base_model, "vision_tower", None)
    encoder = getattr(tower, "encoder", None) or getattr(getattr(tower, "vision_model", None), "encoder", None)
    feature_layer = getattr(model.config, "vision_feature_layer", None)
    if encoder is None or not isinstance(feature_layer, int):
        raise ValueError(f"cls_attention: the tower of {type(model).__name__} cannot be watched; choose another method")
    # hidden_states[-1] is what the last layer gives, [0] what the first layer reads
    layer = encoder.layers[feature_layer if feature_layer < 0 else feature_layer - 1].self_attn
    watcher = TowerWatcher(model.config.vision_feature_select_strategy == "default")
    before = model.config.vision_config._attn_implementation
    model.set_attn_implementation({"vision_config": _NAME})
    setattr(layer, _WATCHER, watcher)
    try:
        yield watcher
    finally:
        delattr(layer, _WATCHER)
        model.set_attn_implementation({"vision_config": before})


def downsampled_features(model: Any, arguments: Mapping[str, Any], sample: int, rows: int, columns: int) -> Float[Tensor, "m D"]:
    """Features of one picture shrunk to rows x columns patches; the tower's position table is interpolated."""
    pixels = arguments["pixel_values"][sample : sample + 1]
    patch = model.config.vision_config.patch_size
    size = (rows * patch, columns * patch)
    small = nn.functional.interpolate(pixels.float(), size=size, mode="bilinear", antialias=True, align_corners=False)
    changed = {"pixel_values": small.to(pixels.dtype), "interpolate_pos_encoding": True}
    with torch.no_grad():
        return model.base_model.get_image_features(**{**arguments, **changed}, return_dict=True).pooler_output[0]
