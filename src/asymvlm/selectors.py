"""From scores and a budget to the tokens that stay. Pure functions of one sample; torch only.

A selector gives indices in ascending order, exactly as many as asked for, at least one. It never looks at other samples, so
a batch and its samples one by one keep the same tokens.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from .shapes import Float, Int64

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
    """The `count` best tokens; of equal scores the earlier ones."""
    order = torch.sort(scores, descending=True, stable=True).indices
    return order[:count].sort().values


def gap_count(scores: Float[Tensor, "N"], at_least: float = 1 / 64, at_most: float = 1.0) -> int:
    """AsymVLM's score-gap rule (arXiv 2605.29535, section 3.3): keep what stands before the largest drop.

    The paper derives the budget from the gaps between sorted scores; its exact rule is not public. Ours: sort the scores,
    and cut at the largest gap between neighbours among the ranks from `at_least * N` to `at_most * N`. With all gaps equal
    (or no gap) everything in that range is kept.
    """
    total = scores.numel()
    first, last = count_for(at_least, total), count_for(at_most, total)
    ranked = scores.float().sort(descending=True).values
    gaps = ranked[first - 1 : last - 1] - ranked[first:last]
    if gaps.numel() == 0 or float(gaps.max()) <= float(gaps.min()):
        return last
    return first + int(gaps.argmax())
