"""A control: the same target with its tokens permuted."""

from __future__ import annotations

import torch
from torch import Tensor

from ..backbone import Backbone
from ..typing import Float
from .base import EncodedBatch, Target


class ShuffledTarget(Target):
    """Another target's values at random places: same cost and shape, no signal.

    A scorer trained on it must fall to `random`.
    """

    def __init__(self, inner: Target, seed: int = 0) -> None:
        self.inner = inner
        self.needs_boxes = inner.needs_boxes
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(self, backbone: Backbone, batch: EncodedBatch) -> list[Float[Tensor, "n"]]:
        return [
            importance[
                torch.randperm(len(importance), generator=self._generator).to(importance.device)
            ]
            for importance in self.inner(backbone, batch)
        ]
