"""Families that see videos, and batches with some."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
import transformers as tf
from torch import Tensor

from .parts import (
    IMAGE,
    PAD,
    VOCAB,
    D,
    Family,
    clip,
    patches,
    text,
    tiled,
)
from .sequence import IN_SEQUENCE

VIDEO = 6


def video_patches(grid: tuple[int, int, int], size: int) -> Callable[[int], dict[str, Tensor]]:
    made = patches(grid, size)
    return lambda count: {
        "pixel_values_videos": made(count)["pixel_values"],
        "video_grid_thw": torch.tensor([grid] * count),
    }


def frames(count: int) -> dict[str, Tensor]:
    return {"pixel_values_videos": torch.randn(count, 2, 3, 16, 16)}


# By family, what its processor gives for videos; the pictures beside them are those of its row
# above.
VIDEOS: dict[str, Callable[[int], dict[str, Tensor]]] = {
    "Qwen2_5_VL": video_patches((2, 4, 4), 96),
    "Qwen3VL": video_patches((2, 4, 4), 96),
    "LlavaOnevision": frames,
    "LlavaNextVideo": frames,
}


LLAVA_NEXT_VIDEO = Family(
    "LlavaNextVideo",
    lambda: tf.LlavaNextVideoConfig(
        vision_config=clip(),
        text_config=text(model_type="llama"),
        image_token_index=IMAGE,
        video_token_index=VIDEO,
        image_grid_pinpoints=[[32, 32], [16, 32]],
        spatial_pool_mode="average",
        spatial_pool_stride=2,
    ),
    tiled(5),
)


WITH_VIDEO = [*(row for row in IN_SEQUENCE if row.name in VIDEOS), LLAVA_NEXT_VIDEO]


def video_batch(model: Any, family: Family, words: tuple[int, int] = (7, 4)) -> dict[str, Tensor]:
    """The first sample shows a video, the second a picture and a video."""
    torch.manual_seed(1)
    inputs = {**family.pictures(1), **VIDEOS[family.name](2)}
    lengths = {}
    for name in ("image", "video"):
        encode = getattr(model.base_model, f"get_{name}_features")
        given = {
            key: value
            for key, value in inputs.items()
            if key in inspect.signature(encode).parameters
        }
        with torch.no_grad():
            lengths[name] = [
                len(one.reshape(-1, D)) for one in encode(**given, return_dict=True).pooler_output
            ]
    shows = [[VIDEO], [IMAGE, VIDEO]]
    waiting = {IMAGE: iter(lengths["image"]), VIDEO: iter(lengths["video"])}
    prompts = []
    for shown, length in zip(shows, words, strict=True):
        ids = [1]
        for token in shown:
            count = next(waiting[token])
            # Qwen3-VL writes every frame of a video by itself, with its time before it.
            groups = 2 if family.name == "Qwen3VL" and token == VIDEO else 1
            for _ in range(groups):
                ids += [20 + groups, 7, *[token] * (count // groups), 8]
        prompts.append(ids + torch.randint(20, VOCAB, (length,)).tolist())
    width = max(len(ids) for ids in prompts)
    inputs["input_ids"] = torch.tensor([[PAD] * (width - len(ids)) + ids for ids in prompts])
    inputs["attention_mask"] = torch.tensor(
        [[0] * (width - len(ids)) + [1] * len(ids) for ids in prompts]
    )
    for name in family.token_types:
        inputs[name] = (inputs["input_ids"] == IMAGE).long() + 2 * (
            inputs["input_ids"] == VIDEO
        ).long()
    if family.counted:
        inputs[family.counted] = torch.tensor([0, 1])
    return inputs
