"""The control that every method has to beat."""

from __future__ import annotations

import torch
from torch import Tensor

from ..shapes import Float
from .base import Method, Tokens


class Random(Method):
    """Tokens drawn uniformly; the same for the same sample, whatever else is in the batch."""

    kind = "random"

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def score(self, tokens: Tokens) -> Float[Tensor, "n"]:
        # Seeded by what the sample is, so that a batch and its samples one by one agree.
        mark = int(tokens.text_ids.sum()) * 1_000_003 + int(tokens.vision.float().abs().sum() * 64)
        generator = torch.Generator().manual_seed((self.seed * 7_919 + mark) % 2**63)
        return torch.rand(len(tokens.vision), generator=generator).to(tokens.vision.device)
