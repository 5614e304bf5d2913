"""From scores and a budget to the tokens that stay. Pure functions; torch only.

A selector gives indices in ascending order, exactly as many as asked for, at least one. It never
looks at other samples, so a batch and its samples one by one keep the same tokens.

The order of tokens ------------------- Everything that ranks (`top_k`, methods that choose a set,
gates, the KV cache) ranks by `tie_groups`: scores that differ by rounding alone are equal, and of
equal scores the token with the smaller index comes first; in the KV cache, whose slots have no
order, the oldest entry leaves first. Without it, tokens that are equal by construction (the same
word twice, blank paper) would be ordered by the last bit of a float, which changes with the batch,
the padding, the number of threads and the CPU.

Two neighbours in the sorted scores are equal if they are no further apart than

    2^-18 * the larger of their magnitudes + 2^-17 * the median magnitude of the sample's finite
    scores

and equality is passed on from neighbour to neighbour. Neighbours, not fixed steps: whatever is
rounded to a grid can fall on either side of a grid line. The first term is for scores whose
rounding error is relative, such as attention weights over many decades (largest error measured:
2.7e-7 of the weight); the second for scores that are small differences of large terms, such as a
linear predictor near zero (6e-7 of the median); both are about 16 times what fp32 arithmetic was
seen to do. Integers are compared exactly. Scores in half precision are told apart by their own,
much coarser, steps.

Scores that are different by chance alone and come as close as that are ordered by index too: among
5,000 normally distributed scores one token in a hundred has such a neighbour. And where a gap
happens to be as wide as the tolerance itself, rounding still decides; that is as rare as any other
coincidence, and no structure of the input brings it about.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from .typing import Bool, Float, Int64

Keep = float | int | Literal["auto", "gap"]

_RELATIVE, _ABSOLUTE = 2.0**-18, 2.0**-17


def check_keep(keep: Keep, key: str = "keep") -> Keep:
    """Return `keep` if it is one of the accepted values; `key` is what errors call it.

    Raises ValueError for anything else: a float outside (0, 1], an int below 1, a bool, another
    word.
    """
    if isinstance(keep, str) and keep in ("auto", "gap"):
        return keep
    if isinstance(keep, float) and 0.0 < keep <= 1.0:
        return keep
    if isinstance(keep, int) and not isinstance(keep, bool) and keep >= 1:
        return keep
    raise ValueError(
        f"{key}: {keep!r} is not accepted; give a share in (0, 1] as a float (1.0 keeps all), a "
        "count per sample of at "
        'least 1 as an int, "auto" (the budget head) or "gap" (the score-gap rule)'
    )


def count_for(keep: float | int, total: int) -> int:
    """Count the tokens that a share (rounded half up) or a count stands for, at least 1.

    A pure function of its arguments, so that engines which size their buffers before the encoder
    runs can call it.
    """
    if total < 1:
        raise ValueError(f"total: {total} vision tokens; a sample without any cannot be pruned")
    count = keep if isinstance(keep, int) else math.floor(keep * total + 0.5)
    return max(1, min(total, count))


def tie_groups(scores: Float[Tensor, "*B N"]) -> Int64[Tensor, "*B N"]:
    """Number each token's group of equal scores along the last dimension, 0 for the highest.

    A permutation of the scores permutes the groups, and scores of minus infinity (padding, tokens
    already taken) change no other token's group but by coming last. NaN is equal to nothing.
    """
    ranked, index = scores.sort(dim=-1, descending=True)
    apart = ~_equal(ranked)
    group = torch.nn.functional.pad(apart.cumsum(-1), (1, 0))
    return torch.empty_like(group).scatter_(-1, index, group)


def rank(scores: Float[Tensor, "*B N"]) -> Int64[Tensor, "*B N"]:
    """Sort indices by score, best first; of equal scores (`tie_groups`) the smaller index first."""
    return tie_groups(scores).argsort(dim=-1, stable=True)


def best(scores: Float[Tensor, "*B N"]) -> Int64[Tensor, "*B"]:
    """Return the index that `rank` puts first along the last dimension."""
    return (tie_groups(scores) == 0).view(torch.uint8).argmax(-1)


def top_k(scores: Float[Tensor, "N"], count: int) -> Int64[Tensor, "K"]:
    """Return the `count` best tokens, ascending; of equal scores those with the smaller index."""
    return rank(scores)[:count].sort().values


def gap_count(scores: Float[Tensor, "N"], at_least: float = 1 / 64, at_most: float = 1.0) -> int:
    """Count what stands before the largest drop of scores (AsymVLM, arXiv 2605.29535, 3.3).

    The paper derives the budget from the gaps between sorted scores; its exact rule is not public.
    Ours: sort the scores, and cut at the largest gap between neighbours among the ranks from
    `at_least * N` to `at_most * N`; of gaps that are equal but for rounding at the first. With all
    gaps equal (or no gap) everything in that range is kept.
    """
    total = scores.numel()
    first, last = count_for(at_least, total), count_for(at_most, total)
    ranked = scores.sort(descending=True).values
    ranked = ranked.to(torch.promote_types(ranked.dtype, torch.float32))
    gaps = (ranked[:-1] - ranked[1:])[first - 1 : last - 1]
    if gaps.numel() == 0:
        return last
    # A gap inherits the errors of both its scores.
    noise = 2 * _tolerance(ranked)[first - 1 : last - 1]
    widest = gaps >= gaps.max() - noise
    return last if bool(widest.all()) else first + int(widest.nonzero()[0])


def _equal(ranked: Float[Tensor, "*B N"]) -> Tensor:
    """Mark the sorted scores (all but the first) that equal the one before, `[*B, N - 1]`."""
    same = ranked[..., 1:] == ranked[..., :-1]
    if not ranked.is_floating_point():
        return same
    ranked = ranked.to(torch.promote_types(ranked.dtype, torch.float32))
    # Infinite scores have no distance from others; `same` has those that are equal.
    apart = (ranked[..., :-1] - ranked[..., 1:]).abs()
    return same | (apart <= _tolerance(ranked)) & apart.isfinite()


def _tolerance(ranked: Float[Tensor, "*B N"]) -> Float[Tensor, "*B N-1"]:
    """The distance from the score before it within which a sorted score counts as equal."""
    size = ranked.abs()
    middle = size.masked_fill(size == torch.inf, torch.nan).nanmedian(-1, keepdim=True).values
    return (
        _RELATIVE * torch.maximum(size[..., 1:], size[..., :-1]) + _ABSOLUTE * middle.nan_to_num()
    )


def left_pack(
    mask: Bool[Tensor, "B S"], length: int | None = None
) -> tuple[Int64[Tensor, "B L"], Bool[Tensor, "B L"]]:
    """Columns of the True entries of each row, in order, padded on the left.

    Args:
        mask: Which entries stay.
        length: L, the last entries of each row alone; left out, the most that any row has.

    Returns:
        The columns, and which of them are no padding. Padding names columns that are False.
    """
    size = int(mask.sum(-1).max()) if length is None else length
    order = mask.view(torch.uint8).argsort(dim=-1, stable=True)
    columns = order[:, order.shape[1] - size :]
    return columns, mask.gather(1, columns)
