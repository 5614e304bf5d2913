"""Equal cost for methods at different places: fewer tokens where more layers see all."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Literal

from ...methods import Method
from ...pruning.report import seen_by_layer
from .cost import layer_average, llm_macs

Equal = Literal["left", "layer_average", "flops"]


def at_equal_cost(method: Method, equal: Equal, config: Any, text_tokens: int) -> Method:
    """Lower a method's last count so that it costs no more than dropping before the LLM.

    `equal`: "left" leaves it as it is: equal tokens at the end. "layer_average": equal tokens seen
    by a layer on average, as SparseVLM and PyramidDrop count. "flops": equal MACs of the LLM's
    prefill behind `text_tokens` of text; the method's own cost is not in it.

    What it gives raises ValueError while pruning where even one token at the end costs too much.
    """
    if method.layer is None or equal == "left":
        return method

    def cost(counts: Sequence[int]) -> float:
        return (
            layer_average(counts)
            if equal == "layer_average"
            else llm_macs(config, counts, text_tokens)
        )

    equalled, own = copy.copy(method), method.stages

    def stages(count: int, total: int, depth: int) -> dict[int, int]:
        most = cost([count] * depth)
        low, high = 0, total
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (
                (middle, high)
                if cost(seen_by_layer(own(middle, total, depth), total, depth)) <= most
                else (low, middle - 1)
            )
        if low == 0:
            raise ValueError(
                f"keep: {count} of {total} tokens in all layers cost less than what "
                f"{type(method).__name__} lets its first layers see; "
                "give a higher keep"
            )
        return own(low, total, depth)

    equalled.stages = stages  # type: ignore[method-assign]
    return equalled
