"""Prompts with answers appended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..typing import Int64
from .layout import Layout

if TYPE_CHECKING:
    from .backbone import Backbone


def check_left_padded(layout: Layout) -> None:
    """Raise ValueError for prompts with padding on the right, where answers are appended."""
    if not bool(layout.attention_mask[:, -1].all()):
        raise ValueError(
            "padding_side: answers are appended to the prompts, so these must be padded on the left"
        )


def append_answers(
    backbone: Backbone, call: Mapping[str, Any], tails: Sequence[Int64[Tensor, "l"]]
) -> tuple[dict[str, Any], Int64[Tensor, "B L"]]:
    """Append one tail of tokens per sample to a call, right-padded; returns the tails' mask too."""
    longest = max(len(tail) for tail in tails)
    ids = torch.zeros(len(tails), longest, dtype=torch.long, device=backbone.device)
    tail_mask = torch.zeros_like(ids)
    for sample, tail in enumerate(tails):
        ids[sample, : len(tail)], tail_mask[sample, : len(tail)] = tail.to(ids), 1
    return (backbone.extended(call, ids, tail_mask) if longest else dict(call)), tail_mask


def with_tails(
    call: Mapping[str, Any],
    ids: Int64[Tensor, "B L"],
    tail_mask: Int64[Tensor, "B L"],
    token_type: int,
) -> dict[str, Any]:
    """Append columns to all of a call that has the prompt's; positions go on by one each.

    `token_type` is that of the new tokens, where the call has token types.
    """
    positions = call["position_ids"]
    steps = torch.arange(1, ids.shape[1] + 1, device=ids.device)
    following = positions[..., -1:] + steps.expand(*positions.shape[:-1], -1)
    tails = {"input_ids": ids, "attention_mask": tail_mask, "position_ids": following}
    for name in ("token_type_ids", "mm_token_type_ids"):
        if name in call:
            tails[name] = torch.full_like(ids, token_type)
    extended = dict(call)
    for name, tail in tails.items():
        extended[name] = torch.cat([call[name], tail.to(call[name].dtype)], dim=-1)
    return extended
