"""All families whose vision tokens stand in the sequence, and their batches."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .llava import LLAVA_FAMILIES
from .others import OTHER_FAMILIES
from .parts import (
    IMAGE,
    PAD,
    VOCAB,
    Family,
)
from .qwen import QWEN_FAMILIES


def more_types(model: Any, inputs: dict[str, Tensor], count: int) -> dict[str, Tensor]:
    """Token types of a call to which `count` columns of text are appended."""
    answer = int(model.config.model_type == "paligemma")
    return {
        name: torch.nn.functional.pad(inputs[name], (0, count), value=answer)
        for name in {"token_type_ids", "mm_token_type_ids"} & inputs.keys()
    }


IN_SEQUENCE = [*LLAVA_FAMILIES, *QWEN_FAMILIES, *OTHER_FAMILIES]


def batch(
    model: Any, family: Family, pictures: tuple[int, ...] = (1, 2), words: tuple[int, ...] = (7, 4)
) -> dict[str, Tensor]:
    """A left-padded batch as the family's processor would build it.

    `pictures` and `words` per sample.
    """
    torch.manual_seed(1)
    total = sum(pictures)
    inputs = family.pictures(total)
    if family.counted:
        inputs[family.counted] = torch.tensor(pictures)
    if family.by_sample:
        flat = inputs["pixel_values"]
        padded = flat.new_zeros(len(pictures), max(pictures), *flat.shape[1:])
        start = 0
        for row, count in enumerate(pictures):
            padded[row, :count] = flat[start : start + count]
            start += count
        inputs["pixel_values"] = padded
    with torch.no_grad():
        features = model.base_model.get_image_features(**inputs, return_dict=True).pooler_output
    lengths = [len(one) for one in features]
    if family.by_sample and len(features) == len(pictures) != total:  # a list per sample
        lengths = [
            len(one) // count
            for one, count in zip(features, pictures, strict=True)
            for _ in range(count)
        ]
    prompts, picture = [], 0
    for count, length in zip(pictures, words, strict=True):
        ids = [1]
        for _ in range(count):
            ids += [7, *[IMAGE] * lengths[picture], 8]
            picture += 1
        prompts.append(ids + torch.randint(20, VOCAB, (length,)).tolist())
    width = max(len(ids) for ids in prompts)
    inputs["input_ids"] = torch.tensor([[PAD] * (width - len(ids)) + ids for ids in prompts])
    inputs["attention_mask"] = torch.tensor(
        [[0] * (width - len(ids)) + [1] * len(ids) for ids in prompts]
    )
    for name in family.token_types:
        inputs[name] = (inputs["input_ids"] == IMAGE).long()
    if family.prefix_types:
        inputs["token_type_ids"] = torch.zeros_like(inputs["input_ids"])
    return inputs
