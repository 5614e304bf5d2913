"""The interface of all eviction policies, built in or not."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..typing import Float, Int64
from .entries import Entries

__all__ = ["ALL_ROWS", "Entries", "Evictor", "NewEntries"]

ALL_ROWS = 2**31  # every query row of every call


@dataclass(frozen=True)
class NewEntries:
    """Entries that were just written to a layer. G groups of keys."""

    layer: int
    keys: Float[Tensor, "B G q d"]  # rotated
    values: Float[Tensor, "B G q d"]
    position: Int64[Tensor, "B q"]  # real tokens of the row before it


class Evictor(ABC):
    """Ranks the text entries of a layer's cache for eviction.

    Override `rank`, and `initial_score` or `update` where it needs scores.

    An object holds numbers to choose by and nothing of a batch: that lies in `Entries`, which
    follow their rows when beams change places. All heads of a layer lose the same entries. The
    first `sinks` text entries of a row and its `recent` newest never leave.
    """

    kind: ClassVar[str]
    sinks: int = 4
    recent: int | None = 16  # None stands for half the budget
    rows: int = 0  # of how many of the newest query rows it wants the attention
    window: int = 0  # numbers per entry in `Entries.attention_window`
    # How it differs from what its authors published; tables of results name it.
    deviations: tuple[str, ...] = ()

    def __init__(self, sinks: int = 4, recent: int | None = 16) -> None:
        """Raise ValueError for a negative `sinks` and a `recent` below 1."""
        if sinks < 0:
            raise ValueError(f"sinks: {sinks} must not be negative; 0 protects none")
        if recent is not None and recent < 1:
            raise ValueError(f"recent: {recent} must be at least 1, or None for half the budget")
        self.sinks, self.recent = sinks, recent

    def check(self, model: PreTrainedModel) -> None:  # noqa: B027
        """Raise ValueError where this policy cannot act on this model; called before any work."""

    def initial_score(self, new: NewEntries) -> Float[Tensor, "B q"]:
        """Score new entries."""
        return torch.zeros_like(new.position, dtype=torch.float32)

    def update(self, entries: Entries, attention: Float[Tensor, "B q K"]) -> None:  # noqa: B027
        """Update `entries.score` from the attention of the newest rows, mean over heads, oldest
        first.

        Called once per step, or for a long prompt several times with a part of its rows. Rows of
        padding come first and are 0. Assign new tensors; what is there must not be changed in
        place.
        """

    @abstractmethod
    def rank(self, entries: Entries) -> Float[Tensor, "B K"]:
        """Rank the entries: the lowest is evicted first; of equals the oldest.

        Equal are scores that differ by rounding alone (`asymvlm.selectors`), so do not count
        positions in them: for "the oldest of these" give all of these one score, such as minus
        infinity. Slots that are not text may hold anything.
        """
