"""A weighted mean of two targets."""

from __future__ import annotations

from torch import Tensor

from ..backbone import Backbone
from ..typing import Float
from .base import EncodedBatch, Target


class MixedTarget(Target):
    """(1 - share) * first + share * second."""

    def __init__(self, first: Target, second: Target, share: float = 0.5) -> None:
        if not 0 <= share <= 1:
            raise ValueError(f"share: {share} must lie in [0, 1]")
        self.first, self.second, self.share = first, second, share
        self.needs_boxes = first.needs_boxes or second.needs_boxes

    def __call__(self, backbone: Backbone, batch: EncodedBatch) -> list[Float[Tensor, "n"]]:
        pairs = zip(self.first(backbone, batch), self.second(backbone, batch), strict=True)
        return [(1 - self.share) * first + self.share * second for first, second in pairs]
