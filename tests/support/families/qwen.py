"""Tiny models of the families whose pictures have any size: Qwen and Glm4v."""

from __future__ import annotations

import transformers as tf

from .parts import (
    IMAGE,
    D,
    Family,
    patches,
    text,
)


def qwen2_5_vl(patch: int = 4) -> Family:
    vision = {
        "depth": 2,
        "hidden_size": 16,
        "out_hidden_size": D,
        "num_heads": 2,
        "intermediate_size": 24,
        "patch_size": patch,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "window_size": 4 * patch,
        "fullatt_block_indexes": [1],
    }
    language = text(
        rope_parameters={"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}
    )
    tokens = {"image_token_id": IMAGE, "video_token_id": 6, "vision_start_token_id": 7}
    return Family(
        "Qwen2_5_VL",
        lambda: tf.Qwen2_5_VLConfig(vision_config=vision, text_config=language, **tokens),
        patches((1, 4, 8), 6 * patch**2),
        token_types=("mm_token_type_ids",),
    )


QWEN_FAMILIES = [
    Family(
        "Qwen2VL",
        lambda: tf.Qwen2VLConfig(
            vision_config={
                "depth": 2,
                "embed_dim": 16,
                "hidden_size": D,
                "num_heads": 2,
                "mlp_ratio": 2,
                "patch_size": 4,
                "spatial_merge_size": 2,
                "temporal_patch_size": 2,
            },
            text_config=text(
                rope_parameters={
                    "rope_type": "default",
                    "rope_theta": 1e4,
                    "mrope_section": [2, 1, 1],
                }
            ),
            image_token_id=IMAGE,
            video_token_id=6,
            vision_start_token_id=7,
        ),
        patches((1, 4, 8), 96),
        token_types=("mm_token_type_ids",),
    ),
    qwen2_5_vl(),
    Family(
        "Qwen3VL",
        lambda: tf.Qwen3VLConfig(
            vision_config={
                "depth": 3,
                "hidden_size": 16,
                "out_hidden_size": D,
                "num_heads": 2,
                "intermediate_size": 24,
                "patch_size": 4,
                "spatial_merge_size": 2,
                "temporal_patch_size": 2,
                "num_position_embeddings": 16,
                "deepstack_visual_indexes": [0, 1],
            },
            text_config=text(
                head_dim=8,
                rope_parameters={
                    "rope_type": "default",
                    "rope_theta": 1e4,
                    "mrope_section": [2, 1, 1],
                },
            ),
            image_token_id=IMAGE,
            video_token_id=6,
            vision_start_token_id=7,
            vision_end_token_id=8,
        ),
        patches((1, 4, 8), 96),
        token_types=("mm_token_type_ids",),
    ),
    Family(
        "Glm4v",
        lambda: tf.Glm4vConfig(
            vision_config={
                "depth": 2,
                "hidden_size": 16,
                "out_hidden_size": D,
                "num_heads": 2,
                "intermediate_size": 24,
                "patch_size": 4,
                "spatial_merge_size": 2,
                "temporal_patch_size": 2,
                "image_size": 16,
            },
            text_config=text(
                rope_parameters={
                    "rope_type": "default",
                    "rope_theta": 1e4,
                    "mrope_section": [2, 1, 1],
                    "partial_rotary_factor": 1.0,
                }
            ),
            image_token_id=IMAGE,
            video_token_id=6,
            image_start_token_id=7,
            image_end_token_id=8,
            video_start_token_id=9,
            video_end_token_id=10,
        ),
        # Upstream, dense beam search over samples with several pictures reads the wrong ones.
        patches((1, 4, 8), 96),
        token_types=("mm_token_type_ids",),
        beams=(1, 1),
    ),
]
