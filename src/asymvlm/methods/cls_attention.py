"""The vision tower's own attention; blind to the question."""

from __future__ import annotations

from torch import Tensor

from ..typing import Float
from .base import Method, Tokens


class ClsAttention(Method):
    """Attention from the tower's CLS to each patch, mean over heads (FasterVLM, arXiv 2412.01818).

    Towers without a CLS: attention received by each patch, mean over heads and rows.
    """

    kind = "cls_attention"
    reads_tower = True

    def score(self, tokens: Tokens) -> Float[Tensor, "n"]:
        return tokens.tower().attention
