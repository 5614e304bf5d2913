"""Several samples as one padded batch; the same type live and from the cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ..scorers import TokenBatch
from ..typing import Float
from .sample import DistillationSample


@dataclass
class DistillationBatch:
    """B samples padded to N vision tokens."""

    tokens: TokenBatch
    importance: Float[Tensor, "B N"]  # sums to one per sample, zero on padding
    evidence: Float[Tensor, "B N"]
    dense_answer_share: Float[Tensor, "B"]  # NaN where the teacher was not asked

    def __len__(self) -> int:
        return len(self.importance)


def collate(samples: Sequence[DistillationSample]) -> DistillationBatch:
    """Pad on the right with zeros and False."""

    def padded(name: str) -> Tensor:
        return pad_sequence([getattr(sample, name) for sample in samples], batch_first=True)

    masks = [sample.importance.new_ones(len(sample.vision)).bool() for sample in samples]
    tokens = TokenBatch(
        padded("vision"),
        pad_sequence(masks, batch_first=True),
        padded("text"),
        padded("text_mask"),
        padded("grid"),
    )
    shares = padded("dense_answer_share").squeeze(-1)
    return DistillationBatch(tokens, padded("importance"), padded("evidence"), shares)
