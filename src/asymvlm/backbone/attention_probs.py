"""Attention probabilities of chosen query rows, which SDPA computes and does not return.

B samples, H query heads, G groups of keys (H a multiple of G), R query rows, S prompt length, K
keys, d the head's width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..typing import Bool, Float, Int64


def attention_probs(
    query: Float[Tensor, "B H R d"],
    key: Float[Tensor, "B G K d"],
    mask: Float[Tensor, "#B #H R K"] | Bool[Tensor, "#B #H R K"] | None,
    scaling: float | None,
) -> Float[Tensor, "B H R K"]:
    """Compute the softmax of the scaled products, in fp32.

    Args:
        query: Rotated queries of the rows in question alone.
        key: Rotated keys.
        mask: True where a row may see a key, or a bias that is added; None where all see all.
        scaling: What products are multiplied by; None stands for 1 / sqrt(d).

    A row that sees nothing has zeros.
    """
    grouped = query.unflatten(1, (key.shape[1], -1))
    logits = torch.einsum("bghqd,bgkd->bghqk", grouped, key).float().flatten(1, 2)
    logits = logits * (scaling if scaling is not None else query.shape[-1] ** -0.5)
    if mask is None:
        return logits.softmax(-1)
    if mask.dtype == torch.bool:
        return logits.masked_fill(~mask, -torch.inf).softmax(-1).nan_to_num()
    return (logits + mask.float()).softmax(-1)


def causal_rows(rows: Int64[Tensor, "*b R"], keys: int, offset: int = 0) -> Bool[Tensor, "*b R K"]:
    """Causal mask of query `rows`: keys up to their own position plus `offset`."""
    return torch.arange(keys, device=rows.device) <= rows[..., None] + offset
