"""AsymVLM's rule: evict what has had little attention for a while, oldest first."""

from __future__ import annotations

import torch
from torch import Tensor

from ...typing import Float
from ..base import Entries, Evictor


class Threshold(Evictor):
    """Temporal, by a fixed threshold (AsymVLM, arXiv 2605.29535).

    The score of an entry is the attention of the newest row, plus `decay` times what it was: with
    0.99 it halves in 69 tokens. Entries whose score is below `threshold` times the mean of the
    row's text entries leave, oldest first; only if these are not enough, the lowest scored. Never
    more than the budget asks for.

    The paper says temporal, by threshold, and only above a fixed budget; its numbers are not
    public. Ours are from dialogues of the validation split (configs/eval/calibrate-eviction.yaml),
    where the memory matters a little and the threshold hardly.
    """

    kind = "threshold"
    deviations = ("threshold and decay are ours (the paper's are not public)",)
    rows = 1

    def __init__(
        self, threshold: float = 0.25, decay: float = 0.99, sinks: int = 4, recent: int | None = 16
    ) -> None:
        super().__init__(sinks, recent)
        if threshold < 0:
            raise ValueError(
                f"threshold: {threshold} is a share of the mean score; it must not be negative"
            )
        if not 0 <= decay < 1:
            raise ValueError(f"decay: {decay} must lie in [0, 1)")
        self.threshold, self.decay = threshold, decay

    def update(self, entries: Entries, attention: Float[Tensor, "B q K"]) -> None:
        entries.score = torch.add(attention[:, -1], entries.score, alpha=self.decay)

    def rank(self, entries: Entries) -> Float[Tensor, "B K"]:
        text = entries.text
        mean = (entries.score * text).sum(-1, keepdim=True) / text.sum(-1, keepdim=True)
        # All that are below share one score, and of equals the oldest leaves.
        return entries.score.masked_fill(entries.score < self.threshold * mean, -torch.inf)
