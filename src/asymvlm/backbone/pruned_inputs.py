"""A batch of prompts without its dropped vision tokens: their columns, and the features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..engine import ForwardPass, PromptColumns
from ..typing import Int64
from .layout import Call
from .modalities import fewer, rows_of

# What padded slots hold; anything else of the prompt's shape is padded with 0. Positions of padding
# mean nothing and stay as they are.
_PADDING = {"labels": -100}
_UNTOUCHED = ("position_ids",)


def kept_columns(call: Call, copies: int = 1, width: int | None = None) -> PromptColumns:
    """Find the columns of text and of kept vision tokens; every row `copies` times, for beams.

    Columns behind the prompt, up to `width`, all stay.
    """
    layout = call.layout
    stay = layout.text.clone()
    vision_rows = layout.vision.nonzero()  # in the order of the placeholders: sample by sample
    flat = _flat_index(call, 1).to(stay.device)
    stay[vision_rows[flat, 0], vision_rows[flat, 1]] = True
    behind = 0 if width is None else width - stay.shape[1]
    stay = torch.nn.functional.pad(stay, (0, behind), value=True)
    return PromptColumns.of(stay.repeat_interleave(copies, dim=0))


def drop_columns(
    inputs: Mapping[str, Any], columns: PromptColumns, shape: tuple[int, ...], pad_token_id: int
) -> dict[str, Any]:
    """Drop columns of all tensors whose last dimensions are `shape`, the prompt's.

    What is left is left-padded; positions stay as they were.
    """
    result = dict(inputs)
    for name, value in inputs.items():
        if isinstance(value, Tensor) and value.shape[-2:] == shape:
            packed = columns.gather(value)
            if name not in _UNTOUCHED:
                fill = pad_token_id if name == "input_ids" else _PADDING.get(name, 0)
                packed = packed.masked_fill(~columns.real.expand_as(packed), fill)
            result[name] = packed
    return result


def read_columns(
    forward: ForwardPass, inputs: Mapping[str, Any], columns: PromptColumns, pad_token_id: int
) -> dict[str, Any]:
    """Drop the columns of all that a forward pass reads, and note there which are left."""
    assert forward.ids is not None
    shape = tuple(forward.ids.shape)
    forward.columns, forward.ids = [columns], columns.gather(forward.ids)
    inputs = {**inputs, "attention_mask": forward.prompt_mask}
    return drop_columns(inputs, columns, shape, pad_token_id)


def drop_features(call: Call, copies: int = 1) -> dict[str, Any]:
    """Drop rows of the model's own encoder outputs, by modality; `copies` as above."""
    encoded = call.encoded
    if not call.drops and copies == 1:
        return dict(encoded.output)
    kept = [choice for choice in call.kept for _ in range(copies)]
    flat = _flat_index(call, copies)
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


def _flat_index(call: Call, copies: int) -> Int64[Tensor, "K"]:
    """Index the kept tokens among all vision tokens of the batch."""
    offset, parts = 0, []
    for count, choice in zip(call.layout.counts(), call.kept, strict=True):
        parts += [choice.index + offset] * copies
        offset += count
    return torch.cat(parts)
