"""Diverse tokens that answer the question: a conditional determinantal point process."""

from __future__ import annotations

import torch
from torch import Tensor

from ..selectors import best
from ..typing import Float, Int64
from .base import Method, Tokens
from .common.clip_similarity import ClipSimilarity
from .common.similarity import unit_rows

_RIDGE = 1e-4


class CDPruner(Method):
    """Greedy MAP of the DPP with kernel diag(rho) L diag(rho) (CDPruner, arXiv 2506.10967).

    Greedy algorithm of arXiv 1709.05135.

    L holds the cosines of projected tokens. The relevance rho is minus the cosine of patch and
    prompt in CLIP's joint space, as in the published code: in CLIP-L/14-336 relevant patches are
    less similar to the text than background. Of a prompt longer than CLIP's window it is the mean
    over segments (`ClipSimilarity`). Each step takes the token that raises the determinant most,
    from one more row of the kernel's Cholesky factor.

    Unlike published, rho is moved to [0, 1] per sample and not per batch, so that what is kept of a
    sample does not depend on what stands beside it; and L has 0.0001 added on its diagonal, since
    beyond its rank all determinants are zero and rounding would choose: so relevance does. Shortly
    before, what is left of a token is a small difference, and rounding may still choose between
    copies of one. O(k^2 N + k N D) time, O(k N) memory.

    Args:
        clip: Directory or repository of the CLIP whose tower the VLM has.
        tokenizer: The VLM's own tokenizer; None stands for CLIP's.
        sign: 1 or -1; what the cosine is multiplied with. Which one is right depends on the tower.

    Raises ValueError for another sign.
    """

    kind = "cd_pruner"
    reads_tower = True
    deviations = (
        "relevance is scaled per sample (published: per batch)",
        "0.0001 on the kernel's diagonal",
        "segments of a long prompt have a begin and an end each (published: cut raw)",
    )

    def __init__(self, clip: str, tokenizer: str | None = None, sign: float = -1.0) -> None:
        if sign not in (1, -1):
            raise ValueError(f"sign: {sign} is neither 1 nor -1")
        self.sign = sign
        self.similarity = ClipSimilarity(clip, tokenizer)

    def select(self, tokens: Tokens, count: int) -> Int64[Tensor, "count"]:
        # In fp64: what those taken leave of a token that is like them is a small difference of
        # large numbers.
        unit = unit_rows(tokens.vision).double()
        # Of the determinant's factors; rho needs no place in L itself.
        squared = self._dense_attention(tokens).square()
        taken = torch.zeros(len(unit), dtype=torch.bool, device=unit.device)
        # Of each token's own entry, behind what those taken explain.
        left = unit.new_full((len(unit),), 1 + _RIDGE)
        rows = unit.new_empty(count, len(unit))  # of the Cholesky factor of L
        for step in range(count):
            new = best((squared * left).masked_fill(taken, -torch.inf))
            taken[new] = True
            above = rows[:step]
            rows[step] = (unit @ unit[new] - above[:, new] @ above) / left[new].sqrt()
            # What it cannot be below but for rounding.
            left = (left - rows[step].square()).clamp_min(_RIDGE)
        return taken.nonzero()[:, 0]

    def _dense_attention(self, tokens: Tokens) -> Float[Tensor, "n"]:
        relevance = self.sign * self.similarity(tokens).float()
        low, high = relevance.aminmax()
        return (relevance - low + 1e-6) / (high - low + 1e-6)
