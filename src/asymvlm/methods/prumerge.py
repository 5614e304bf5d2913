"""Outliers of the tower's attention and an even spread, with neighbours fused in."""

from __future__ import annotations

import torch
from torch import Tensor

from ..selectors import rank, top_k
from ..typing import Float, Int64
from .base import Method, Tokens
from .common.similarity import in_blocks, others, unit_rows
from .grid import evenly

_NEIGHBOURS = 32


class PruMergePlus(Method):
    """Top tokens by CLS attention, and three times as many evenly spaced (arXiv 2403.15388).

    The attention is that of all heads read as one.

    Each kept token becomes x_i + sum a_j x_j over the 32 other tokens with the most similar keys; a
    is the attention, unnormalised. One more token is appended: the sum of a_j x_j over all tokens
    not kept.

    Published: outliers by the interquartile rule, a share r of all tokens, and every 1/(3r)-th
    token besides. Under a given count a quarter are top tokens and the rest are spaced evenly among
    the others, the same one to three. So that the count is exact, the appended token is one of it:
    it takes the place of the last token not kept otherwise. `keep="auto"` gives the published
    adaptive share. Tokens are fused behind the projector instead of before it; where all tokens
    stay, nothing is fused. O(k N (C + D)) time.
    """

    kind = "prumerge_plus"
    reads_tower = True

    def select(self, tokens: Tokens, count: int) -> Int64[Tensor, "count"]:
        themselves = _themselves(tokens.tower().single_head().float(), count - 1)
        appended = others(len(tokens.vision), themselves)[-1:]
        return torch.cat([themselves, appended]).sort().values

    def merge(self, tokens: Tokens, kept: Int64[Tensor, "k"]) -> Float[Tensor, "k D"]:
        total = len(tokens.vision)
        if len(kept) == total:
            return tokens.vision
        tower = tokens.tower()
        attention, keys = tower.single_head().float(), unit_rows(tower.keys)
        themselves = _themselves(attention, len(kept) - 1)
        weighted = tokens.vision.float() * attention[:, None]
        added = weighted.new_zeros(len(themselves), weighted.shape[1])
        for part, cosine in in_blocks(keys[themselves], keys):
            cosine.scatter_(1, themselves[part, None], -torch.inf)
            near = rank(cosine)[:, : min(_NEIGHBOURS, total - 1)]
            added[part] = torch.zeros_like(cosine).scatter_(1, near, 1.0) @ weighted
        merged = tokens.vision[kept].float()
        appended = ~torch.isin(kept, themselves)
        merged[~appended] += added
        merged[appended] = weighted[others(total, themselves)].sum(0)
        return merged.to(tokens.vision.dtype)

    def budget(self, tokens: Tokens) -> float:
        """Return the share of outliers above Q3 + 1.5 IQR, three times that, and the appended
        token.
        """
        attention = tokens.tower().single_head().float()
        low, high = attention.quantile(attention.new_tensor([0.25, 0.75]))
        outliers = float((attention > high + 1.5 * (high - low)).float().mean())
        return min(1.0, outliers + 3 * outliers * (1 - outliers) + 1 / len(attention))


def _themselves(attention: Float[Tensor, "n"], count: int) -> Int64[Tensor, "count"]:
    """Choose the tokens that stay: a quarter by attention, the others evenly spaced."""
    top = top_k(attention, (count + 3) // 4)
    rest = others(len(attention), top)
    return torch.cat([top, rest[evenly(len(rest), count - len(top)).to(rest.device)]]).sort().values
