"""A LLaVA with random weights whose decoder is of a size that matters, behind a tower that costs
next to nothing.
"""

from __future__ import annotations

import torch
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

IMAGE = 5  # the placeholder's id
LAYERS, HEAD = 20, 64


def mid_size_llava(
    width: int, intermediate: int, side: int, layers: int = LAYERS
) -> LlavaForConditionalGeneration:
    """Layers of heads of 64 numbers, `side` x `side` vision tokens from pictures of 4 * `side`
    pixels; the same at every call.
    """
    torch.manual_seed(0)
    text = LlamaConfig(
        hidden_size=width,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=width // HEAD,
        num_key_value_heads=width // HEAD,
        vocab_size=32000,
    )
    tower = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=4 * side,
        patch_size=4,
    )
    return LlavaForConditionalGeneration(
        LlavaConfig(vision_config=tower, text_config=text, image_token_index=IMAGE)
    ).eval()
