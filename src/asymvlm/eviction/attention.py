"""Attention of the newest query rows, mean over heads, for eviction policies."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ..backbone.attention_probs import attention_probs, causal_rows
from ..engine import AttentionInputs
from ..selectors import left_pack
from ..typing import Bool, Float

_LIMIT = 2**24  # probabilities held at once, all heads counted: 64 MiB


def attention_of_newest(
    given: AttentionInputs, real: Bool[Tensor, "B q"], count: int
) -> Iterator[Float[Tensor, "B r K"]]:
    """Compute the attention of the `count` newest real rows, oldest first, some at a time.

    Where a sample has fewer, rows of zeros come first. Without a mask, rows see what is not behind
    them.
    """
    query, key, mask, scaling = given.query, given.key, given.mask, given.scaling
    batch, heads, steps, _ = query.shape
    if steps == 1:
        yield attention_probs(query, key, mask, scaling).mean(1)
        return
    keys = key.shape[2]
    if mask is None:
        newest = torch.arange(steps, device=key.device)
        mask = causal_rows(newest, keys, keys - steps)[None, None]
    mask = mask.expand(batch, -1, -1, -1)
    rows, valid = left_pack(real, min(count, steps))
    part = max(1, _LIMIT // (batch * heads * keys))
    for start in range(0, rows.shape[1], part):
        columns = slice(start, start + part)
        index = rows[:, None, columns, None]
        chosen, seen = (torch.take_along_dim(item, index, 2) for item in (query, mask))
        probs = attention_probs(chosen, key, seen, scaling).mean(1)
        yield probs * valid[:, columns, None]
