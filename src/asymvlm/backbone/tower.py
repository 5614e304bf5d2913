"""What can be asked of the vision tower itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from ..shapes import Float
from .backbone import Backbone

_NAME = "asymvlm_tower"


def _attention(module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **kwargs: Any) -> tuple[Tensor, None]:
    """SDPA, and what each patch receives: from CLS where there is one, else on average over all rows."""
    recorder = getattr(module, "asymvlm_recorder", None)
    if recorder is not None:
        rows = query[:, :, :1] if recorder["cls"] else query
        scale = kwargs.get("scaling") or query.shape[-1] ** -0.5
        mass = (rows @ key.mT * scale).float().softmax(-1).mean((1, 2))
        recorder["mass"] = mass[:, 1:] if recorder["cls"] else mass
    return sdpa_attention_forward(module, query, key, value, mask, **kwargs)


def tower_attention(backbone: Backbone, inputs: Mapping[str, Any]) -> Float[Tensor, "pictures n"]:
    """Attention that each patch receives from CLS (without a CLS: on average), mean over heads, at the feature layer.

    Raises ValueError where patches are merged or packed before the LLM, so that they are not its tokens.
    """
    if not hasattr(AttentionInterface(), "_global_mapping") or _NAME not in AttentionInterface._global_mapping:
        AttentionInterface.register(_NAME, _attention)
        AttentionMaskInterface.register(_NAME, sdpa_mask)
    model: Any = backbone.model
    tower = model.base_model.vision_tower
    layers = tower.encoder.layers if hasattr(tower, "encoder") else tower.vision_model.encoder.layers
    feature_layer = model.config.vision_feature_layer
    # hidden_states[-1] is the last layer's output, [-2] the one before
    attention = layers[feature_layer].self_attn if feature_layer < 0 else layers[feature_layer - 1].self_attn
    has_cls = model.config.vision_feature_select_strategy == "default"
    recorder: dict[str, Any] = {"cls": has_cls}
    before = model.config.vision_config._attn_implementation
    model.set_attn_implementation({"vision_config": _NAME})
    attention.asymvlm_recorder = recorder
    try:
        with torch.no_grad():
            encoded = backbone.encode(inputs)
    finally:
        del attention.asymvlm_recorder
        model.set_attn_implementation({"vision_config": before})
    mass: Tensor = recorder["mass"]
    if mass.shape[1] != len(encoded.pictures[0]):
        raise ValueError(
            f"cls_attention: {type(model).__name__} makes {len(encoded.pictures[0])} tokens of {mass.shape[1]} patches; "
            "the tower's attention is not about the LLM's tokens"
        )
    return mass


def downsampled_features(backbone: Backbone, inputs: Mapping[str, Any], sample: int, rows: int, columns: int) -> Float[Tensor, "m D"]:
    """Features of one picture shrunk to rows x columns patches; the tower's position table is interpolated."""
    arguments = backbone.picture_arguments(inputs)
    pixels = arguments["pixel_values"][sample : sample + 1]
    patch = backbone.model.config.vision_config.patch_size
    small = nn.functional.interpolate(
        pixels.float(), size=(rows * patch, columns * patch), mode="bilinear", antialias=True, align_corners=False
    )
    arguments |= {"pixel_values": small.to(pixels.dtype), "interpolate_pos_encoding": True}
    with torch.no_grad():
        return backbone.model.base_model.get_image_features(**arguments, return_dict=True).pooler_output[0]
