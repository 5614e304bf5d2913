"""Random tokens: the control that every method has to beat."""

from __future__ import annotations

import torch
from torch import Tensor

from ..selectors import best
from ..typing import Float
from .base import Method, Tokens

_CHANNELS = 6


class Random(Method):
    """Tokens drawn uniformly; the same for a sample whatever else is in the batch."""

    kind = "random"

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def score(self, tokens: Tokens) -> Float[Tensor, "n"]:
        # Seeded by what the sample is, so that a batch and its samples one by one agree: its words,
        # and where a few channels are largest, which rounding does not change.
        largest = best(tokens.vision[:, :_CHANNELS].T).tolist()
        mark = int(tokens.text_ids.sum()) * 1_000_003 + sum(
            place * 257**power for power, place in enumerate(largest)
        )
        generator = torch.Generator().manual_seed((self.seed * 7_919 + mark) % 2**63)
        return torch.rand(len(tokens.vision), generator=generator).to(tokens.vision.device)
