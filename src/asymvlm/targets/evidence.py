"""Importance from boxes around the answer."""

from __future__ import annotations

from torch import Tensor

from ..backbone import Backbone
from ..limits import check_at_least
from ..typing import Float
from .base import EncodedBatch, Target, normalised


class EvidenceTarget(Target):
    """Each token's share of its cell in an evidence box, normalised per sample.

    As GlimpsePrune's masks, arXiv 2508.01548.

    `key_weight` weighs the boxes of what has to be found first (a label, a row's head) beside the
    evidence.
    """

    needs_boxes = True

    def __init__(self, key_weight: float = 0.0) -> None:
        check_at_least(0, {"key_weight": key_weight})
        self.key_weight = key_weight

    def __call__(self, backbone: Backbone, batch: EncodedBatch) -> list[Float[Tensor, "n"]]:
        if batch.evidence is None or batch.key_boxes is None:
            raise ValueError(
                "target: EvidenceTarget needs data with evidence_boxes; choose AttentionTarget for "
                "data without"
            )
        return [
            normalised(evidence + self.key_weight * keys)
            for evidence, keys in zip(batch.evidence, batch.key_boxes, strict=True)
        ]
