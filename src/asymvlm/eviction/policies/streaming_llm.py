"""Attention sinks and a window of the newest entries."""

from __future__ import annotations

import torch
from torch import Tensor

from ...typing import Float
from ..base import Entries, Evictor


class StreamingLLM(Evictor):
    """Evicts the oldest entries but the attention sinks (StreamingLLM, arXiv 2309.17453).

    The paper counts positions inside the cache; here an entry keeps the position it was written
    with, as `generate` does, so a text must not grow longer than the model's own context.
    """

    kind = "streaming_llm"
    deviations = ("entries keep their positions (published: those inside the cache)",)

    def rank(self, entries: Entries) -> Float[Tensor, "B K"]:
        # Of equals the oldest leaves.
        return torch.zeros_like(entries.score)
