"""Drop rows from a batch of prompts with one gather."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..selectors import left_pack
from ..typing import Int64
from .layout import Encoded, Kept, Layout
from .modalities import fewer, rows_of

# What padded slots hold; anything else of shape [B, S] is padded with 0. Positions of padding mean
# nothing and stay as they are.
_PADDING = {"labels": -100}
_UNTOUCHED = ("position_ids",)


def drop_rows(
    call: dict[str, Any], encoded: Encoded, layout: Layout, kept: list[Kept], pad_token_id: int
) -> dict[str, Any]:
    """Drop vision tokens from a call without pixels: left-padded, positions as they were.

    `call` holds `input_ids`, `position_ids` and whatever else has the prompt's shape.
    """
    stay = layout.text.clone()
    vision_rows = layout.vision.nonzero()  # in the order of the placeholders: sample by sample
    flat = _flat_index(layout.counts(), kept).to(stay.device)
    stay[vision_rows[flat, 0], vision_rows[flat, 1]] = True
    columns, valid = left_pack(stay)

    result = {**call, "attention_mask": layout.attention_mask}
    shape = layout.input_ids.shape
    for name, value in result.items():
        if isinstance(value, Tensor) and value.shape[-2:] == shape:
            packed = value.gather(-1, columns.expand(*value.shape[:-1], -1))
            if name not in _UNTOUCHED:
                fill = pad_token_id if name == "input_ids" else _PADDING.get(name, 0)
                packed = packed.masked_fill(~valid.expand_as(packed), fill)
            result[name] = packed
    result["mm_encoder_outputs"] = _drop_features(encoded, kept, flat)
    return result


def _flat_index(counts: list[int], kept: list[Kept]) -> Int64[Tensor, "K"]:
    """Index the kept tokens among all vision tokens of the batch."""
    offset, parts = 0, []
    for count, choice in zip(counts, kept, strict=True):
        parts.append(choice.index + offset)
        offset += count
    return torch.cat(parts)


def _drop_features(encoded: Encoded, kept: list[Kept], flat: Int64[Tensor, "K"]) -> dict[str, Any]:
    """Drop rows of the model's own encoder outputs, by modality."""
    sizes = [len(choice.index) for choice in kept]
    parts = encoded.rows[flat].split(sizes)
    features = torch.cat(
        [
            part if choice.features is None else choice.features.to(part)
            for choice, part in zip(kept, parts, strict=True)
        ]
    )
    fewer_outputs = {}
    for name, output in encoded.output.items():
        own = rows_of(encoded, name)
        within = own.cumsum(0) - 1  # of each row among those of its modality
        chosen = own[flat]
        counts = [int(part.sum()) for part in chosen.split(sizes)]
        fewer_outputs[name] = fewer(output, features[chosen], within[flat[chosen]], counts)
    return fewer_outputs
