"""Tiny models of the families that read pictures through cross-attention."""

from __future__ import annotations

import torch
import transformers as tf
from torch import Tensor

from .parts import (
    IMAGE,
    PAD,
    VOCAB,
    Family,
    pixels,
    square,
    text,
    tower,
)


def idefics(resampler: bool) -> Family:
    """Idefics v1.

    Pictures are [samples, pictures, ...], and a mask says which rows of the text may look at which.
    """
    vision = {**tower(), "embed_dim": 16}
    perceiver = {
        "use_resampler": resampler,
        "resampler_n_latents": 6,
        "resampler_depth": 1,
        "resampler_n_heads": 2,
        "resampler_head_dim": 8,
    }
    more = {"alpha_initializer": "ones", "cross_layer_interval": 2, "use_resampler": resampler}
    return Family(
        "IdeficsResampler" if resampler else "Idefics",
        lambda: tf.IdeficsConfig(
            **text(num_hidden_layers=4), **more, vision_config=vision, perceiver_config=perceiver
        ),
        square(),
        "IdeficsForVisionText2Text",
    )


def mllama() -> Family:
    vision = {
        **tower(),
        "attention_heads": 2,
        "num_global_layers": 1,
        "vision_output_dim": 32,
        "intermediate_layers_indices": [0],
        "max_num_tiles": 2,
        "supported_aspect_ratios": [[1, 1], [1, 2]],
    }
    language = text(num_hidden_layers=4, cross_attention_layers=[1, 3])
    return Family(
        "Mllama",
        lambda: tf.MllamaConfig(
            vision_config=vision, text_config=language, image_token_index=IMAGE
        ),
        square(),
    )


CROSS_ATTENTION = [idefics(resampler=False), idefics(resampler=True), mllama()]


def cross_batch(
    family: Family, pictures: tuple[int, ...] = (1, 2), words: tuple[int, ...] = (9, 6)
) -> dict[str, Tensor]:
    """A left-padded batch.

    Each row of the text may look at the pictures before it, the second half of them at all.
    """
    torch.manual_seed(1)
    width = max(words)
    inputs = {
        "pixel_values": torch.zeros(len(pictures), max(pictures), 3, 16, 16),
        "input_ids": torch.full((len(words), width), PAD),
        "attention_mask": torch.zeros(len(words), width).long(),
        "image_attention_mask": torch.zeros(len(words), width, max(pictures)).long(),
    }
    for row, (count, length) in enumerate(zip(pictures, words, strict=True)):
        inputs["pixel_values"][row, :count] = pixels(count)
        inputs["input_ids"][row, -length:] = torch.randint(20, VOCAB, (length,))
        inputs["attention_mask"][row, -length:] = 1
        inputs["image_attention_mask"][row, -length + 1 :, 0] = 1  # the first row looks at nothing
        inputs["image_attention_mask"][row, -length // 2 :, :count] = 1
    if family.name == "Mllama":  # the same pictures as tiles; the first has two
        tiles = torch.stack([inputs["pixel_values"], inputs["pixel_values"].flip(-1)], dim=2)
        there = inputs.pop("image_attention_mask")
        double = torch.tensor([1, 0])
        inputs["pixel_values"] = tiles
        inputs["cross_attention_mask"] = torch.stack(
            [there, there * double[: there.shape[2]]], dim=-1
        )
        seen = inputs["cross_attention_mask"].any(1).long()
        inputs["aspect_ratio_mask"] = seen.clone()
        inputs["aspect_ratio_mask"][..., 0] = 1  # as the processor pads
        inputs["aspect_ratio_ids"] = seen.sum(-1)
    return inputs
