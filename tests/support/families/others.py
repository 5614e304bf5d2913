"""Tiny models of the other families whose vision tokens stand in the sequence."""

from __future__ import annotations

from typing import Any

import torch
import transformers as tf
from torch import Tensor

from .parts import (
    IMAGE,
    VOCAB,
    D,
    Family,
    opt,
    pixels,
    q_former,
    siglip,
    square,
    text,
    tower,
)


def molmo2() -> Family:
    """Features are ADDED to the embedding of their placeholder.

    Patches are pooled 2 x 2 by an index.
    """
    vision = {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "image_size": [16, 16],
        "patch_size": 4,
        "num_position_embeddings": 16,
    }
    adapter = {
        "vision_feature_layer": [-1, -2],
        "hidden_size": 16,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "intermediate_size": 24,
        "text_hidden_size": D,
    }
    language = text(head_dim=8, additional_vocab_size=8)
    pooling = torch.tensor(
        [
            [4 * (2 * r + y) + 2 * c + x for y in (0, 1) for x in (0, 1)]
            for r in (0, 1)
            for c in (0, 1)
        ]
    )

    def pictures(count: int) -> dict[str, Tensor]:
        return {
            "pixel_values": torch.randn(count, 16, 48),
            "image_token_pooling": torch.cat([pooling + 16 * number for number in range(count)]),
            "image_grids": torch.tensor([[2, 2, 0, 0]] * count),
        }

    def config() -> Any:
        return tf.Molmo2Config(
            vision_config=vision, adapter_config=adapter, text_config=language, image_patch_id=IMAGE
        )

    return Family("Molmo2", config, pictures, token_types=("mm_token_type_ids",))


OTHER_FAMILIES = [
    Family(
        "InternVL",
        lambda: tf.InternVLConfig(
            vision_config=tower(image_size=[16, 16], patch_size=[4, 4]),
            text_config=text(model_type="qwen2"),
            image_token_id=IMAGE,
            downsample_ratio=0.5,
            vision_feature_layer=-1,
        ),
        square(),
    ),
    Family(
        "SmolVLM",
        lambda: tf.SmolVLMConfig(
            vision_config=tower(),
            text_config=text(model_type="llama"),
            image_token_id=IMAGE,
            scale_factor=2,
        ),
        square(),
        by_sample=True,
    ),
    Family(
        "Idefics3",
        lambda: tf.Idefics3Config(
            vision_config=tower(),
            text_config=text(model_type="llama"),
            image_token_id=IMAGE,
            scale_factor=2,
        ),
        square(),
        by_sample=True,
    ),
    Family(
        "Idefics2",
        lambda: tf.Idefics2Config(
            vision_config=tower(),
            text_config=text(model_type="mistral"),
            image_token_id=IMAGE,
            perceiver_config={
                "hidden_size": D,
                "resampler_n_latents": 6,
                "resampler_depth": 1,
                "resampler_n_heads": 2,
                "resampler_head_dim": 8,
                "num_key_value_heads": 1,
            },
        ),
        square(),
        by_sample=True,
    ),
    Family(
        "Gemma3",
        lambda: tf.Gemma3Config(
            vision_config=siglip(),
            text_config=text(
                head_dim=8,
                sliding_window=64,
                layer_types=["sliding_attention", "full_attention", "sliding_attention"],
            ),
            image_token_id=IMAGE,
            mm_tokens_per_image=4,
            boi_token_index=7,
            eoi_token_index=8,
        ),
        square(),
        token_types=("token_type_ids",),
    ),
    Family(
        "PaliGemma",
        lambda: tf.PaliGemmaConfig(
            vision_config=siglip(projection_dim=D),
            text_config=text(model_type="gemma", head_dim=8),
            image_token_id=IMAGE,
            projection_dim=D,
        ),
        square(),
        prefix_types=True,
    ),
    Family(
        "Mistral3",
        lambda: tf.Mistral3Config(
            vision_config=tower(model_type="pixtral", head_dim=8),
            text_config=text(model_type="mistral", head_dim=8),
            image_token_id=IMAGE,
            spatial_merge_size=2,
        ),
        lambda count: {
            "pixel_values": pixels(count),
            "image_sizes": torch.tensor([[16, 16]] * count),
        },
    ),
    Family(
        "Cohere2Vision",
        lambda: tf.Cohere2VisionConfig(
            vision_config=siglip(),
            text_config=text(
                model_type="cohere2",
                sliding_window=64,
                layer_types=["sliding_attention", "full_attention", "sliding_attention"],
            ),
            image_token_id=IMAGE,
            downsample_factor=2,
            alignment_intermediate_size=64,
        ),
        square(),
    ),
    Family(
        "AyaVision",
        lambda: tf.AyaVisionConfig(
            vision_config=siglip(),
            text_config=text(
                model_type="cohere2",
                sliding_window=64,
                layer_types=["sliding_attention", "full_attention", "sliding_attention"],
            ),
            image_token_id=IMAGE,
            downsample_factor=2,
            adapter_layer_norm_eps=1e-6,
            vision_feature_layer=-1,
        ),
        square(),
    ),
    molmo2(),
    Family(
        "FastVlm",
        lambda: tf.FastVlmConfig(
            vision_config=tower(), text_config=text(model_type="qwen2"), image_token_id=IMAGE
        ),
        square(),
        needs="timm",
    ),
    Family(
        "Blip2",
        lambda: tf.Blip2Config(
            vision_config=tower(),
            qformer_config=q_former(),
            text_config=opt(),
            image_token_index=IMAGE,
            num_query_tokens=6,
        ),
        square(),
    ),
    Family(
        "InstructBlip",
        lambda: tf.InstructBlipConfig(
            vision_config=tower(),
            qformer_config=q_former(),
            text_config=text(model_type="llama"),
            image_token_index=IMAGE,
            num_query_tokens=6,
        ),
        lambda count: {
            "pixel_values": pixels(count),
            "qformer_input_ids": torch.randint(20, VOCAB, (count, 4)),
            "qformer_attention_mask": torch.ones(count, 4).long(),
        },
    ),
]
