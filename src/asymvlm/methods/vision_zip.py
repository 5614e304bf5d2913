"""Tokens that the tower attends to, and averages of the rest."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..selectors import best, top_k
from ..typing import Float, Int64
from .base import Method, Tokens
from .common.fusing import BEHIND, BEHIND_SOMETIMES, fused_features
from .common.similarity import in_blocks, others, unit_rows


class VisionZip(Method):
    """Dominant tokens by CLS attention, contextual ones that average the rest (arXiv 2412.04467).

    Contextual targets stand evenly spaced among the tokens that are not dominant, in their original
    order. Every other token joins the target with the highest cosine of keys averaged over heads,
    and a target becomes itself plus the mean of those that joined it: the tower's states, which the
    projector then reads. Where several patches make a token, or more than the projector stands
    between (a last norm), tokens are fused behind the projector.

    The published code also keeps the CLS token, which is none of the prompt's; and contextual
    tokens stand behind the dominant ones there, here in their targets' places. O(N c (C + E)) time
    for c contextual tokens.

    Args:
        contextual: Their share of the tokens kept, rounded; the published 10 of 64 as default.
        before_projector: False fuses behind the projector everywhere.

    Raises ValueError for a share out of range.
    """

    kind = "vision_zip"
    reads_tower = True

    def __init__(self, contextual: float = 10 / 64, before_projector: bool = True) -> None:
        if not 0 <= contextual <= 1:
            raise ValueError(
                f"contextual: {contextual} is not a share of the tokens kept; give one in [0, 1]"
            )
        self.contextual, self.before_projector = contextual, before_projector
        self.deviations = (
            "CLS itself is not kept",
            "contextual tokens stand in their targets' places (published: behind the others)",
            BEHIND_SOMETIMES if before_projector else BEHIND,
        )

    def select(self, tokens: Tokens, count: int) -> Int64[Tensor, "count"]:
        dominant = self._dominant(tokens, count)
        rest = others(len(tokens.vision), dominant)
        targets = count - len(dominant)
        spaced = torch.arange(targets, device=rest.device) * (len(rest) // max(targets, 1))
        return torch.cat([dominant, rest[spaced]]).sort().values

    def merge(self, tokens: Tokens, kept: Int64[Tensor, "k"]) -> Float[Tensor, "k D"]:
        contextual = ~torch.isin(kept, self._dominant(tokens, len(kept)))
        targets, dropped = kept[contextual], others(len(tokens.vision), kept)
        if len(targets) == 0:
            return tokens.vision[kept]
        tower = tokens.tower()
        keys = unit_rows(tower.keys.float().unflatten(-1, (tower.heads, -1)).mean(1))
        # The end of a line has no key: it joins nothing, and nothing joins it.
        dropped, alone = dropped[keys[dropped].any(-1)], ~keys[targets].any(-1)

        def combine(rows: Float[Tensor, "n C"]) -> Float[Tensor, "k C"]:
            merged = rows[kept]
            total, joined = torch.zeros_like(merged[contextual]), rows.new_zeros(len(targets), 1)
            for part, cosine in in_blocks(keys[dropped], keys[targets]):
                nearest = best(cosine.masked_fill(alone, -torch.inf))
                # A product adds in the same order every time.
                joins = F.one_hot(nearest, len(targets)).float().mT * ~alone[:, None]
                total += joins @ rows[dropped[part]]
                joined += joins.sum(1, keepdim=True)
            merged[contextual] += total / joined.clamp_min(1)
            return merged

        return fused_features(tokens, kept, combine, self.before_projector)

    def _dominant(self, tokens: Tokens, count: int) -> Int64[Tensor, "d"]:
        return top_k(tokens.tower().attention.float(), count - int(count * self.contextual + 0.5))
