"""Quotas for every part of the picture, by attention and variety."""

from __future__ import annotations

import torch
from torch import Tensor

from ..selectors import rank, top_k
from ..typing import Float, Int64
from .base import Method, Tokens
from .common.similarity import unit_rows

_GROUPS = 16
_ROUNDING = 2.0**-18


class HoloV(Method):
    """Quotas for 16 groups of tokens, filled by CLS attention (HoloV, arXiv 2510.02912).

    Groups follow each other in raster order. A token scores a_i + beta * scale * var_i: a is the
    attention, var the variance of its cosines with its group, scale the mean of a over the mean of
    var. A group's quota is its share of the sum of mean scores, rounded down; what is left over
    goes to the groups with the largest scores, one each.

    As in the published code, scale is of each group, so that the variance all but cancels out of a
    group's mean, and a token's own cosine counts as 0. Unlike it, what a group is too small for
    goes round the others, where the code pads with zeros. O(N^2 D / 16) time, O(N^2 / 256) memory.

    Args:
        beta: Weight of the variance.
        corrected: True takes scale of the whole sample and leaves a token's own cosine out of its
            variance, so that variety counts.
    """

    kind = "holov"
    reads_tower = True

    def __init__(self, beta: float = 0.09, corrected: bool = False) -> None:
        self.beta, self.corrected = beta, corrected
        self.deviations = ("what a group is too small for goes to others (published: zeros)",)
        if corrected:
            self.deviations += ("variance scaled over the sample, without a token's own cosine",)

    def select(self, tokens: Tokens, count: int) -> Int64[Tensor, "count"]:
        attention, unit = tokens.tower().attention.float(), unit_rows(tokens.vision)
        groups = torch.arange(len(unit), device=unit.device).tensor_split(min(_GROUPS, len(unit)))
        variance = torch.cat([_variance(unit[group], not self.corrected) for group in groups])

        def mean_score(group: Int64[Tensor, "g"]) -> Float[Tensor, ""]:
            of = slice(None) if self.corrected else group
            scale = attention[of].mean() / (variance[of].mean() + 1e-6)
            return (attention[group] + self.beta * scale * variance[group]).mean()

        means = torch.stack([mean_score(group) for group in groups])
        quotas = _quotas(means / means.sum(), [len(group) for group in groups], count)
        return torch.cat(
            [
                group[top_k(attention[group], quota)]
                for group, quota in zip(groups, quotas, strict=True)
            ]
        )


def _variance(unit: Float[Tensor, "g D"], with_own: bool) -> Float[Tensor, "g"]:
    """Variance of each token's cosines with the others, and with a 0 for its own."""
    size = len(unit)
    if size == 1:
        return unit.new_zeros(1)
    apart = ~torch.eye(size, dtype=torch.bool, device=unit.device)
    cosines = (unit @ unit.mT)[apart].view(size, size - 1)
    own = cosines.mean(1).square() / (size - 1) if with_own else 0.0
    return cosines.var(1, correction=0) + own


def _quotas(shares: Float[Tensor, "groups"], sizes: list[int], count: int) -> list[int]:
    # A share that is a whole number of tokens must not lose one of them to rounding.
    whole = (shares * count * (1 + _ROUNDING)).floor().long().tolist()
    quotas = [min(most, size) for most, size in zip(whole, sizes, strict=True)]
    largest_first = rank(shares).tolist()
    while (left := count - sum(quotas)) > 0:
        for group in [group for group in largest_first if quotas[group] < sizes[group]][:left]:
            quotas[group] += 1
    return quotas
