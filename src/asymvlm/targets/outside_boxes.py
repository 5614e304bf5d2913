"""Tokens that draw attention and are no evidence."""

from __future__ import annotations

import torch
from torch import Tensor

from ..backbone import Backbone
from ..typing import Float
from .base import EncodedBatch, Target, normalised


class OutsideBoxes(Target):
    """Another target's importance outside all boxes, normalised per sample (ours).

    Not to be learned but to be avoided: for `objectives.Distraction`. All zero for a sample without
    boxes: who knows what is no evidence.
    """

    needs_boxes = True

    def __init__(self, inner: Target) -> None:
        self.inner = inner

    def __call__(self, backbone: Backbone, batch: EncodedBatch) -> list[Float[Tensor, "n"]]:
        if batch.evidence is None or batch.key_boxes is None:
            raise ValueError(
                "batch: OutsideBoxes needs evidence and key boxes, and there are none; leave the "
                "distraction term out for data without"
            )
        inside = [
            evidence + keys > 0
            for evidence, keys in zip(batch.evidence, batch.key_boxes, strict=True)
        ]
        rows = zip(self.inner(backbone, batch), inside, strict=True)
        return [
            normalised(item.masked_fill(inside_boxes, 0))
            if inside_boxes.any()
            else torch.zeros_like(item)
            for item, inside_boxes in rows
        ]
