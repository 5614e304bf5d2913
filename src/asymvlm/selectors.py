"""From scores and a budget to the tokens that stay. Pure functions of one sample; torch only.

A selector gives indices in ascending order, exactly as many as asked for, at least one. It never looks at other samples, so
a batch and its samples one by one keep the same tokens.

One order holds wherever scores are compared, here, in methods and in eviction policies: the higher score first, and of equal scores the
smaller index (in a cache: the older entry). Scores count as equal where rounding alone may part them, since the same sample in another
batch, with another number of threads or on another CPU has other last bits. Rounding parts equal fp32 scores by some 2^-22 of their
size; other neighbours among 5,000 scores are mostly 2^-12 apart. So neighbours in the sorted order are equal within `RELATIVE` of their
size, or `ABSOLUTE` of the largest score's where terms have cancelled. Rounding scores to a grid would not do: equal ones fall on either
side of a grid line.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from .shapes import Bool, Float, Int64, Shaped

# In units of the last place: 2^-18 and 2^-23 for single precision.
RELATIVE, ABSOLUTE = 32, 1

Keep = float | int | Literal["auto", "gap"]


def check_keep(keep: Keep) -> Keep:
    """`keep` itself if it is one of the accepted values.

    Raises ValueError for anything else: a float outside (0, 1], an int below 1, a bool, another word.
    """
    if isinstance(keep, str) and keep in ("auto", "gap"):
        return keep
    if isinstance(keep, float) and 0.0 < keep <= 1.0:
        return keep
    if isinstance(keep, int) and not isinstance(keep, bool) and keep >= 1:
        return keep
    raise ValueError(
        f"keep: {keep!r} is not accepted; give a share in (0, 1] as a float (1.0 keeps all), a count per sample of at "
        'least 1 as an int, "auto" (the budget head) or "gap" (the score-gap rule)'
    )


def count_for(keep: float | int, total: int) -> int:
    """How many of `total` tokens a share (rounded half up) or a count stands for; between 1 and `total`.

    A pure function of its arguments, so that engines which size their buffers before the encoder runs can call it.
    """
    if total < 1:
        raise ValueError(f"total: {total} vision tokens; a sample without any cannot be pruned")
    count = keep if isinstance(keep, int) else math.floor(keep * total + 0.5)
    return max(1, min(total, count))


def top_k(scores: Float[Tensor, "N"], count: int) -> Int64[Tensor, "K"]:
    """The `count` best tokens, ascending; of equal scores (see `rank`) the earlier ones."""
    return rank(scores)[:count].sort().values


def rank(scores: Shaped[Tensor, "*b N"]) -> Int64[Tensor, "*b N"]:
    """Indices of each row, best first; of scores that are equal but for rounding, the earlier first.

    -inf stands behind everything, and infinite scores of one sign are equal. Each row is ranked by
    itself. Scores of less than single precision are compared as they are stored.
    """
    scores = _comparable(scores)
    ordered, order = scores.sort(dim=-1, descending=True, stable=True)
    higher, lower = ordered[..., :-1], ordered[..., 1:]
    apart = higher - lower > _noise(scores, torch.maximum(_finite(higher), _finite(lower)))
    group = F.pad(apart.long().cumsum(-1), (1, 0))
    return torch.empty_like(order).scatter_(-1, order, group).argsort(dim=-1, stable=True)


def near_best(scores: Shaped[Tensor, "*b N"]) -> Bool[Tensor, "*b N"]:
    """True for the highest score of each row and those equal to it but for rounding."""
    scores = _comparable(scores)
    best = scores.amax(-1, keepdim=True)
    return (best == scores) | (best - scores <= _noise(scores, _finite(best)))


def best(scores: Shaped[Tensor, "*b N"]) -> Int64[Tensor, "*b"]:
    """The index of each row's highest score; of scores that are equal but for rounding, the first."""
    return near_best(scores).view(torch.uint8).argmax(-1)


def _comparable(scores: Tensor) -> Tensor:
    if not scores.is_floating_point():
        return scores.double()
    return scores if scores.dtype == torch.float64 else scores.float()


def _finite(scores: Tensor) -> Tensor:
    """Sizes of scores, 0 for infinite ones."""
    return scores.abs().nan_to_num(posinf=0.0)


def _noise(scores: Tensor, size: Tensor) -> Tensor:
    """How far rounding may part scores of a size."""
    unit = torch.finfo(scores.dtype).eps
    return unit * (RELATIVE * size + ABSOLUTE * _finite(scores).amax(-1, keepdim=True))


def gap_count(scores: Float[Tensor, "N"], at_least: float = 1 / 64, at_most: float = 1.0) -> int:
    """AsymVLM's score-gap rule (arXiv 2605.29535, section 3.3): keep what stands before the largest drop.

    The paper derives the budget from the gaps between sorted scores; its exact rule is not public. Ours: sort the scores,
    and cut at the largest gap between neighbours among the ranks from `at_least * N` to `at_most * N`, at the first of those that are
    equal but for rounding. With all gaps equal (or no gap) everything in that range is kept.
    """
    total = scores.numel()
    first, last = count_for(at_least, total), count_for(at_most, total)
    scores = _comparable(scores)
    ranked = scores.sort(descending=True).values
    gaps = ranked[first - 1 : last - 1] - ranked[first:last]
    if gaps.numel() == 0:
        return last
    # A gap is as uncertain as the scores around it, however small it is itself.
    largest = gaps >= gaps.max() - 2 * _noise(scores, _finite(scores).amax(-1, keepdim=True))
    return last if bool(largest.all()) else first + int(largest.view(torch.uint8).argmax())
