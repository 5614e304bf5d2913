"""What can be asked of the vision tower itself."""

from __future__ import annotations

import math
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
_TOWERS = ("vision_tower", "vision_model", "visual")  # what families call it


class TowerWatcher:
    """Notes what each patch receives at one layer: from CLS where there is one, else on average over all rows; mean over heads."""

    def __init__(self, has_cls: bool) -> None:
        self.has_cls = has_cls
        self.noted: list[Float[Tensor, "pictures n"]] = []  # one entry per call: some towers attend picture by picture

    def note(self, query: Tensor, key: Tensor, mask: Tensor | None, scaling: float | None) -> None:
        """Called by the attention function; `query` and `key` are `[pictures, heads, patches, d]`."""
        rows = query[:, :, :1] if self.has_cls else query
        logits = (rows @ key.mT * (scaling or query.shape[-1] ** -0.5)).float()
        if mask is not None:
            bias = torch.where(mask, 0.0, -torch.inf) if mask.dtype == torch.bool else mask.float()
            logits = logits + bias[:, :, : logits.shape[2]]
        mass = logits.softmax(-1).nan_to_num().mean((1, 2))
        self.noted.append(mass[:, 1:] if self.has_cls else mass)

    def on_tokens(self, count: int, merges: str | None) -> Float[Tensor, "T"]:
        """What each of `count` LLM tokens received: the mean of the patches that are merged into it.

        `merges` says how: "blocks" of a square grid, or "runs" of patches that follow each other. Raises ValueError where patches
        are neither the tokens nor merged in one of these ways.
        """
        patches = sum(noted.numel() for noted in self.noted)
        side = math.isqrt(patches // max(1, count))
        if patches == count:
            return torch.cat([noted.flatten() for noted in self.noted])
        if merges is None or count * side * side != patches:
            raise ValueError(
                f"{count} vision tokens are made of {patches} patches, not one by one: the tower's attention is not about the LLM's tokens"
            )
        if merges == "runs":
            return torch.cat([noted.flatten() for noted in self.noted]).view(count, -1).mean(1)
        return torch.cat([_blocks(noted, side) for noted in self.noted])


def _blocks(noted: Float[Tensor, "pictures n"], side: int) -> Float[Tensor, "m"]:
    rows = math.isqrt(noted.shape[1])
    return nn.functional.avg_pool2d(noted.view(-1, 1, rows, rows), side).flatten()


def _attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None = None, **kwargs: Any
) -> tuple[Tensor, None]:
    watcher: TowerWatcher | None = getattr(module, _WATCHER, None)
    if watcher is not None:
        watcher.note(query, key, attention_mask, kwargs.get("scaling"))
    return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)


@contextmanager
def watching(model: Any) -> Iterator[TowerWatcher]:
    """While open, encoding pictures fills the watcher, at the cost of one attention row where the tower has a CLS.

    Raises ValueError for families whose tower has no attention that can be watched.
    """
    if _NAME not in AttentionInterface._global_mapping:
        AttentionInterface.register(_NAME, _attention)
        AttentionMaskInterface.register(_NAME, sdpa_mask)
    config = model.config
    layer = feature_layer(model)
    watcher = TowerWatcher(getattr(config, "vision_feature_select_strategy", "full") == "default")
    before = config.vision_config._attn_implementation
    model.set_attn_implementation({"vision_config": _NAME})
    setattr(layer, _WATCHER, watcher)
    try:
        yield watcher
    finally:
        delattr(layer, _WATCHER)
        model.set_attn_implementation({"vision_config": before})


def feature_layer(model: Any) -> nn.Module:
    """The attention of the layer whose states become the features."""
    tower = next((part for name in _TOWERS if (part := getattr(model.base_model, name, None)) is not None), None)
    modules = tower.modules() if tower is not None else ()
    layers = [module for module in modules if type(module).__name__.endswith("Attention") and hasattr(module, "config")]
    number = getattr(model.config, "vision_feature_layer", None)
    if not layers or isinstance(number, list | tuple):
        raise ValueError(f"the tower of {type(model).__name__} cannot be watched; choose another method")
    # hidden_states[-1] is what the last layer gives, [0] what the first layer reads
    index = -1 if number is None else number if number < 0 else number - 1
    return layers[index]


def downsampled_features(model: Any, arguments: Mapping[str, Any], sample: int, rows: int, columns: int) -> Float[Tensor, "m D"]:
    """Features of one picture shrunk to rows x columns patches; the tower's position table is interpolated."""
    pixels = arguments["pixel_values"][sample : sample + 1]
    patch = model.config.vision_config.patch_size
    size = (rows * patch, columns * patch)
    small = nn.functional.interpolate(pixels.float(), size=size, mode="bilinear", antialias=True, align_corners=False)
    changed = {"pixel_values": small.to(pixels.dtype), "interpolate_pos_encoding": True}
    with torch.no_grad():
        return model.base_model.get_image_features(**{**arguments, **changed}, return_dict=True).pooler_output[0]
