"""Tiny models of the Llava families."""

from __future__ import annotations

import torch
import transformers as tf

from .parts import (
    IMAGE,
    Family,
    clip,
    pixels,
    siglip,
    square,
    text,
    tiled,
    tower,
)


def llava(name: str = "Llava", model: str = "") -> Family:
    config = getattr(tf, f"{name}Config")
    return Family(
        name,
        lambda: config(
            vision_config=clip(), text_config=text(model_type="llama"), image_token_id=IMAGE
        ),
        square(),
        model,
    )


LLAVA_FAMILIES = [
    llava(),
    Family(
        "VipLlava",
        lambda: tf.VipLlavaConfig(
            vision_config=clip(num_hidden_layers=3),
            text_config=text(model_type="llama"),
            image_token_id=IMAGE,
            vision_feature_layers=[-1, -2],
        ),
        square(),
    ),
    Family(
        "PixtralLlava",
        lambda: tf.LlavaConfig(
            vision_config=tower(model_type="pixtral", head_dim=8),
            text_config=text(model_type="mistral"),
            image_token_id=IMAGE,
            vision_feature_layer=-1,
            vision_feature_select_strategy="full",
        ),
        lambda count: {
            "pixel_values": pixels(count),
            "image_sizes": torch.tensor([[12, 16]] * count),
        },
        "LlavaForConditionalGeneration",
    ),
    Family(
        "LlavaNext",
        lambda: tf.LlavaNextConfig(
            vision_config=clip(),
            text_config=text(model_type="llama"),
            image_token_id=IMAGE,
            image_grid_pinpoints=[[32, 32], [16, 32]],
        ),
        tiled(5),
    ),
    Family(
        "LlavaOnevision",
        lambda: tf.LlavaOnevisionConfig(
            vision_config=siglip(),
            text_config=text(model_type="qwen2"),
            image_token_id=IMAGE,
            video_token_id=6,
            image_grid_pinpoints=[[32, 32], [16, 32]],
        ),
        tiled(5),
        counted="batch_num_images",
    ),
]
