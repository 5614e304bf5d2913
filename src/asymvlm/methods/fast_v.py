"""Attention of the last prompt row in the layer below."""

from __future__ import annotations

from torch import Tensor

from ..typing import Float
from .base import Method, Tokens


class FastV(Method):
    """Attention of the last text row in the layer below, mean over heads (FastV, arXiv 2403.06764).

    The paper averages over all rows; its code, and so its numbers, take the last row alone, and so
    does this. The code cuts at a fixed place and length of one picture in a batch of one; here it
    is any prompt. Published with half the tokens left: `keep=0.5`.

    Costs O(H L N d): the view below works out the attention of all L text rows.
    """

    kind = "fast_v"
    deviations = ("the last row alone, as in the authors' code (their paper: the mean over rows)",)

    def __init__(self, layer: int = 2) -> None:
        self.layer = layer

    def score(self, tokens: Tokens) -> Float[Tensor, "n"]:
        return tokens.below().attention(slice(-1, None)).mean((0, 1))
