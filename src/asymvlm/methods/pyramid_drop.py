"""Fewer tokens in every quarter of the LLM."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..selectors import count_for
from ..typing import Float
from .base import Method, Tokens


class PyramidDrop(Method):
    """Attention of the last instruction token at three depths (PyramidDrop, arXiv 2410.17247).

    Mean over heads, before a quarter, half and three quarters of the LLM's layers (section 3.2).

    Each stage leaves the same share of what the stage before left, so that `count` are left at the
    end: 12.5 % is the published 50 %, 25 %, 12.5 %. LLMs of fewer than four layers have fewer
    stages.

    The attention is that of the stage's own layer, whose queries and keys are worked out ahead of
    time for it: what the layer reads once more for its attention, and O(H L N d) a stage.

    Args:
        own_layer: False takes the attention of the layer below, which is there already.
    """

    kind = "pyramid_drop"
    layer = 1  # stands for inside the LLM; `stages` says before which layers

    def __init__(self, own_layer: bool = True) -> None:
        self.own_layer = own_layer
        if not own_layer:
            self.deviations = ("attention of the layer below (published: of its own layer)",)

    def stages(self, count: int, total: int, depth: int) -> dict[int, int]:
        return geometric(
            count, total, sorted({max(1, depth * quarter // 4) for quarter in (1, 2, 3)})
        )

    def score(self, tokens: Tokens) -> Float[Tensor, "n"]:
        below = tokens.below()
        attention = below.own_attention if self.own_layer else below.attention
        return attention(slice(-1, None)).mean((0, 1))


def geometric(count: int, total: int, layers: Sequence[int]) -> dict[int, int]:
    """Shrink from `total` to `count` by the same factor at each of `layers`; rounded half up."""
    return {
        layer: count_for((count / total) ** (stage / len(layers)), total)
        for stage, layer in enumerate(layers, start=1)
    }
