"""Tokens that represent the others, weighted by the tower's attention."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ..selectors import best
from ..typing import Float, Int64
from .base import Method, Tokens
from .common.similarity import unit_rows

_AT_A_TIME = 64
_ROUNDING = 2.0**-18  # of cosines in fp32
_RIVAL = 1 - 2.0**-10  # of the best gain; far more than ties can be apart


class SCOPE(Method):
    """Greedy on coverage times saliency (SCOPE, arXiv 2510.24214).

    gain(v) = sum over u of max(0, cos(u, v) - c_u) * a_v^alpha. c_u is the highest cosine of u with
    a token taken, 0 at first; a is the attention of CLS; cosines are of the tower's states. Of
    equal gains the earlier token.

    Gains never grow, so a gain worked out earlier bounds today's, and only tokens whose bound could
    win are worked out anew (lazy greedy, Minoux 1978): the published choice without its N x N
    matrix. O(N^2 D) time at least and O(k N^2 D) at most, O(N) memory.

    Args:
        alpha: Power of the attention; 0 is coverage alone.
    """

    kind = "scope"
    reads_tower = True

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = alpha

    def select(self, tokens: Tokens, count: int) -> Int64[Tensor, "count"]:
        tower = tokens.tower()
        unit, saliency = unit_rows(tower.states), tower.attention.float() ** self.alpha
        covered = torch.zeros_like(saliency)
        taken = torch.zeros_like(saliency, dtype=torch.bool)
        bound = torch.full_like(saliency, torch.inf)

        def gain(index: Int64[Tensor, "m"]) -> Float[Tensor, "m"]:
            # What is covered but for rounding is covered, or noise would choose among the copies of
            # what was taken.
            return (
                functional.threshold(unit[index] @ unit.mT - covered, _ROUNDING, 0.0).sum(1)
                * saliency[index]
            )

        for _ in range(count):
            known = taken.clone()
            while True:
                # Also what could equal the best but for rounding has to be known.
                rivals = bound >= _RIVAL * bound.masked_fill(~known, -1).amax()
                if bool((known | ~rivals).all()):
                    break
                stale = bound.masked_fill(known, -1).topk(min(_AT_A_TIME, len(bound))).indices
                bound[stale] = gain(stale).masked_fill(taken[stale], -1)
                known[stale] = True
            new = best(bound.masked_fill(taken, -torch.inf))
            taken[new], bound[new] = True, -1
            covered = torch.maximum(covered, unit @ unit[new])
        return taken.nonzero()[:, 0]
