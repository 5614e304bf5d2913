"""What a prefill costs, in multiply-accumulates (MACs; one MAC is two FLOPs), from the model's config alone.

Counted are matrix products, convolutions and both products of attention over all pairs of positions, as torch's FlopCounterMode
counts them: no norms, activations, rotary embedding or softmax. The test suite holds the two against each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count


@dataclass(frozen=True)
class PrefillCost:
    """MACs of one sample's prefill, by part."""

    tower: int
    projector: int
    llm: int
    method: int = 0

    @property
    def total(self) -> int:
        return self.tower + self.projector + self.llm + self.method


def llm_macs(config: Any, tokens: int, logits: int = 1) -> int:
    """A Llama-type decoder over `tokens` positions (grouped queries, gated MLP) and its head over `logits` of them."""
    width, heads = config.hidden_size, config.num_attention_heads
    size = getattr(config, "head_dim", None) or width // heads
    groups = getattr(config, "num_key_value_heads", None) or heads
    projections = tokens * width * size * (2 * heads + 2 * groups)  # q, o; k, v
    attention = 2 * tokens**2 * heads * size
    mlp = 3 * tokens * width * config.intermediate_size
    return config.num_hidden_layers * (projections + attention + mlp) + logits * width * config.vocab_size


def clip_tower_macs(config: Any, feature_layer: int = -1) -> int:
    """A CLIP ViT over one picture. All layers run, also those above the feature layer."""
    width, patch = config.hidden_size, config.patch_size
    patches = (config.image_size // patch) ** 2
    tokens = patches + 1
    embedding = patches * width * config.num_channels * patch**2
    layer = 4 * tokens * width**2 + 2 * tokens**2 * width + 2 * tokens * width * config.intermediate_size
    return embedding + config.num_hidden_layers * layer


def prefill_cost(config: Any, vision_tokens: int, text_tokens: int, pictures: int = 1, method: int = 0) -> PrefillCost:
    """One sample's prefill with `vision_tokens` left and all `text_tokens`; tower and projector see every patch.

    Raises ValueError for families whose tower is not covered yet.
    """
    vision, text = config.vision_config, config.get_text_config()
    if vision.model_type != "clip_vision_model":
        raise ValueError(f"cost: the tower {vision.model_type!r} is not covered yet; LLaVA with a CLIP tower is")
    patches = (vision.image_size // vision.patch_size) ** 2
    layers = config.vision_feature_layer
    width = vision.hidden_size * (1 if isinstance(layers, int) else len(layers))
    projector = patches * (width * text.hidden_size + text.hidden_size**2)
    return PrefillCost(
        tower=pictures * clip_tower_macs(vision),
        projector=pictures * projector,
        llm=llm_macs(text, vision_tokens + text_tokens),
        method=method,
    )


def flop_counter() -> FlopCounterMode:
    """torch's counter, which knows no formula for the CPU's fused attention, with one."""

    def attention(query: Any, key: Any, value: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
        return sdpa_flop_count(query, key, value)

    fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    return FlopCounterMode(display=False, custom_mapping={fused: attention})
