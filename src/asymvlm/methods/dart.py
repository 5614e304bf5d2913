"""Tokens unlike a few pivots: drops duplicates."""

from __future__ import annotations

import torch
from torch import Tensor

from ..selectors import top_k
from ..typing import Float, Int64
from .base import Method, Tokens
from .common.similarity import unit_rows


class DART(Method):
    """Tokens least like a few pivots, by cosine of hidden states (DART, arXiv 2502.11494).

    Pivots are the vision and the question tokens with the largest L1 norm of their keys; each in
    turn brings its share of the tokens.

    The question is the text behind the last picture, as published; all text where there is none.
    Hidden states pass through the LLM's final norm first, as in the published code. Deviations:

    - Shares are equal up to one token and add up to `count`. The published quota, rounded once for
      all pivots, keeps a few tokens more or fewer than asked for.
    - Vision pivots come first, then text, each in the order of the prompt. The published order is
      that of a Python set.

    Costs O(N D) for each pivot.

    Args:
        layer: The LLM layer before which it acts.
        vision_pivots: How many.
        text_pivots: How many.
        final_norm: False compares hidden states as the layer reads them.
    """

    kind = "dart"

    def __init__(
        self,
        layer: int = 2,
        vision_pivots: int = 4,
        text_pivots: int = 4,
        final_norm: bool = True,
    ) -> None:
        if min(vision_pivots, text_pivots) < 0 or vision_pivots + text_pivots == 0:
            raise ValueError(
                f"vision_pivots, text_pivots: {vision_pivots} and {text_pivots}; give numbers of "
                "which one is above 0"
            )
        self.layer, self.vision_pivots, self.text_pivots = layer, vision_pivots, text_pivots
        self.final_norm = final_norm
        self.deviations = (
            "shares of the pivots add up to the count (published: rounded once for all)",
            "pivots in the prompt's order (published: in that of a set)",
        )
        if not final_norm:
            self.deviations += ("states as they are (published: behind the LLM's final norm)",)

    def select(self, tokens: Tokens, count: int) -> Int64[Tensor, "count"]:
        view = tokens.below()
        behind = tokens.after_pictures
        own = _largest(view.keys, min(self.vision_pivots, count))
        asked = _largest(view.text_keys[behind], self.text_pivots)
        vision, text = tokens.vision, tokens.text[behind][asked]
        if self.final_norm:
            vision, text = view.final_norm(vision), view.final_norm(text)
        pivots = torch.cat([vision[own], text])
        likeness = unit_rows(pivots) @ unit_rows(vision).T
        kept = torch.zeros(len(tokens.vision), dtype=torch.bool, device=own.device)
        kept[own] = True
        share, rest = divmod(count - len(own), len(pivots))
        for number, like in enumerate(likeness):
            kept[top_k(-like.masked_fill(kept, torch.inf), share + (number < rest))] = True
        return kept.nonzero().squeeze(-1)


def _largest(keys: Float[Tensor, "n d"], count: int) -> Int64[Tensor, "count"]:
    return top_k(keys.float().abs().sum(-1), count)
