"""The attention of a few query rows, mean over heads, beside that which the layer computes."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ..typing import Bool, Float

_LIMIT = 2**24  # probabilities held at once, all heads counted: 64 MiB


def attention_of_newest(
    query: Float[Tensor, "B H q d"],
    key: Float[Tensor, "B G K d"],
    mask: Bool[Tensor, "B 1 q K"] | None,
    real: Bool[Tensor, "B q"],
    wanted: int,
    scaling: float | None,
) -> Iterator[Float[Tensor, "B r K"]]:
    """Attention probabilities in fp32 of the `wanted` newest real rows of each sample, a part of them at a time, oldest first.

    Where a sample has fewer, rows of zeros come first. Without a mask, rows see what is not behind them.
    """
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    batch, heads, steps, _ = query.shape
    if steps == 1:
        yield _mean_over_heads(query, key, mask, scaling)
        return
    if mask is None:
        columns = torch.arange(key.shape[2], device=key.device)
        mask = (columns <= columns[-steps:, None])[None, None]
    mask = mask.expand(batch, -1, -1, -1)
    rows = real.view(torch.uint8).argsort(dim=-1, stable=True)[:, -min(wanted, steps) :]
    for part in rows.split(max(1, _LIMIT // (batch * heads * key.shape[2])), dim=1):
        chosen, seen = (torch.take_along_dim(one, part[:, None, :, None], 2) for one in (query, mask))
        yield _mean_over_heads(chosen, key, seen, scaling) * real.gather(1, part)[..., None]


def _mean_over_heads(query: Tensor, key: Tensor, mask: Bool[Tensor, "B 1 r K"] | None, scaling: float) -> Float[Tensor, "B r K"]:
    batch, heads, rows, size = query.shape
    groups = key.shape[1]
    together = (query * scaling).reshape(batch, groups, heads // groups * rows, size)
    logits = (together @ key.transpose(-1, -2)).float().view(batch, heads, rows, -1)
    if mask is not None:
        logits = logits.masked_fill(~mask, torch.finfo(torch.float32).min)
    return logits.softmax(-1).mean(1)
