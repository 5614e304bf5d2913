"""The report of pruned calls, for the caller of `prune`."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..backbone import Kept


@dataclass
class PrunedCall:
    """One pruned prefill."""

    before: list[int]  # vision tokens per sample
    after: list[int]
    kept: list[Tensor]  # per sample, ascending indices into its vision tokens
    scores: list[Tensor | None]  # per sample, where the method ranks
    grids: list[Tensor]  # per sample, picture, row and column of each of its vision tokens
    # Per sample, vision tokens from each LLM layer on where their number changes.
    stages: list[dict[int, int]]

    def per_layer(self, depth: int) -> list[list[int]]:
        """List the vision tokens that each of `depth` LLM layers sees, per sample."""
        return [
            seen_by_layer(stages, before, depth)
            for before, stages in zip(self.before, self.stages, strict=True)
        ]


def seen_by_layer(stages: dict[int, int], total: int, depth: int) -> list[int]:
    """List the vision tokens that each of `depth` layers sees.

    `stages` says how many are left from a layer on.
    """
    counts, left = [], total
    for layer in range(depth):
        left = stages.get(layer, left)
        counts.append(left)
    return counts


@dataclass
class PruneReport:
    """The pruned calls, with notes and warnings.

    `text_only` counts prompts without pictures, which passed unchanged; `continued` counts calls
    that went on from a cache; `unseen` counts passes of the LLM alone, past the model, whose
    pictures passed whole if there were any.
    """

    calls: list[PrunedCall] = field(default_factory=list)
    text_only: int = 0
    continued: int = 0
    unseen: int = 0
    notes: list[str] = field(default_factory=list)  # what the method's user was warned of

    def note(self, grids: list[Tensor], kept: list[Kept], stages: list[dict[int, int]]) -> None:
        """Add a call."""
        index, scores = [choice.index for choice in kept], [choice.scores for choice in kept]
        if self.calls:
            # Pictures of one size have one grid, which is held once.
            before = self.calls[-1].grids
            grids = [next((old for old in before if torch.equal(old, new)), new) for new in grids]
        self.calls.append(
            PrunedCall(
                [len(grid) for grid in grids],
                [len(item) for item in index],
                index,
                scores,
                grids,
                stages,
            )
        )
