"""Observations of several samples as one padded batch; the same type whether live or from the cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ..distillation.teacher import DistillationSample
from ..scorers import TokenBatch
from ..typing import Float


@dataclass
class TrainingBatch:
    """B samples padded to N vision tokens."""

    tokens: TokenBatch
    importance: Float[Tensor, "B N"]  # sums to one per sample, zero on padding
    evidence: Float[Tensor, "B N"]
    dense_answer_share: Float[Tensor, "B"]  # NaN where the teacher was not asked

    def __len__(self) -> int:
        return len(self.importance)


def collate(observations: Sequence[DistillationSample]) -> TrainingBatch:
    """Pad on the right with zeros and False."""

    def padded(name: str) -> Tensor:
        return pad_sequence([getattr(one, name) for one in observations], batch_first=True)

    vision = padded("vision")
    present = pad_sequence([one.importance.new_ones(len(one.vision)).bool() for one in observations], batch_first=True)
    tokens = TokenBatch(vision, present, padded("text"), padded("text_mask"), padded("grid"))
    return TrainingBatch(tokens, padded("importance"), padded("evidence"), padded("dense_answer_share").squeeze(-1))
