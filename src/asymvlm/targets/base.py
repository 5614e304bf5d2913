"""The interface of targets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from ..backbone import Backbone, EncodedPictures, Layout
from ..typing import Float


@dataclass
class EncodedBatch:
    """A batch of prompts, encoded once, with what is known of the samples.

    `answer_ids` are the tokens of a right answer per sample; `evidence` and `key_boxes` the share
    of each vision token's cell that lies in an evidence box or in a box of what has to be found
    first; None where the data has no boxes.
    """

    inputs: Mapping[str, Any]
    encoded: EncodedPictures
    layout: Layout
    text_mask: Tensor  # [B, S], the question's rows: `Layout.question`
    answer_ids: list[Tensor]
    evidence: list[Tensor] | None = None
    key_boxes: list[Tensor] | None = None

    def encoded_again(self, backbone: Backbone) -> EncodedBatch:
        """Encode the pictures again with the VLM as it is now, with gradients."""
        return replace(self, encoded=backbone.encode(self.inputs))


class Target(ABC):
    """Importance of each vision token for its sample; knows the teacher, not the scorer."""

    needs_boxes: bool = False

    @abstractmethod
    def __call__(self, backbone: Backbone, batch: EncodedBatch) -> list[Float[Tensor, "n"]]:
        """Compute a distribution per sample: not negative, sums to one."""


def normalised(mass: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
    """Scale to sum to one; uniform where the sum is zero."""
    mass = mass.float().clamp_min(0)
    total = mass.sum()
    return mass / total if total > 0 else mass.new_full(mass.shape, 1 / max(1, mass.numel()))
