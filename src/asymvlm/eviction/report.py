"""The report of evicted entries, for the caller of `evict`."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..typing import Bool, Int64

_ROOM = 256  # columns by which the record of departures grows


@dataclass
class LayerCounts:
    """Counts of one layer per row of the batch (per live beam), after the last step."""

    seen: list[int] = field(default_factory=list)  # text tokens
    held: list[int] = field(default_factory=list)  # text entries
    # The most text entries of a row; several tokens at once, as a prompt, are counted once the
    # layer has cut them.
    peak: int = 0
    bytes: int = 0  # keys and values
    peak_bytes: int = 0
    # By position + 1, the position of the row's newest token when the entry left; -1 while it
    # stays. Column 0 takes what is nobody's.
    gone: Int64[Tensor, "B P"] | None = None

    def add_text(self, texts: list[int]) -> None:
        """Count new text tokens per row."""
        self.seen = [
            count + new for count, new in zip(self.seen or [0] * len(texts), texts, strict=True)
        ]
        self.held = [
            count + new for count, new in zip(self.held or [0] * len(texts), texts, strict=True)
        ]

    def record_evicted(
        self,
        position: Int64[Tensor, "B n"],
        evicted_mask: Bool[Tensor, "B n"] | None,
        newest: Int64[Tensor, "B 1"],
        most: int,
    ) -> None:
        """Record evicted entries: all of them, or those that `evicted` names."""
        if self.gone is None:
            self.gone = position.new_full((len(position), 1), -1)
        if self.gone.shape[1] <= most:
            self.gone = torch.nn.functional.pad(
                self.gone, (0, most + _ROOM - self.gone.shape[1]), value=-1
            )
        place = (
            position + 1 if evicted_mask is None else (position + 1).masked_fill(~evicted_mask, 0)
        )
        self.gone.scatter_(1, place, newest.expand_as(place))

    def update_peak(self, size: int) -> None:
        """Note the layer's size after a step."""
        self.peak = max(self.peak, *self.held)
        self.bytes, self.peak_bytes = size, max(self.peak_bytes, size)

    def reordered(self, rows: Int64[Tensor, "n"]) -> None:
        """Follow a new choice of the batch's rows."""
        index = rows.tolist()
        self.seen, self.held = [self.seen[row] for row in index], [self.held[row] for row in index]
        if self.gone is not None:
            self.gone = self.gone[rows]

    def evicted(self) -> list[list[tuple[int, int]]]:
        """List, per row, each evicted entry's position and the newest token's at that time."""
        if self.gone is None:
            return [[] for _ in self.seen]
        rows = [
            [
                (place - 1, int(row[place]))
                for place in (row >= 0).nonzero().flatten().tolist()
                if place
            ]
            for row in self.gone.cpu()
        ]
        return [sorted(row, key=lambda pair: (pair[1], pair[0])) for row in rows]


@dataclass
class EvictionCall:
    """One prompt and what followed on its cache, further turns included."""

    layers: dict[int, LayerCounts]  # by the layers that evict: those with full attention

    @property
    def _any(self) -> LayerCounts:
        return next(iter(self.layers.values()))

    @property
    def seen(self) -> list[int]:
        """Text tokens per row."""
        return self._any.seen

    @property
    def held(self) -> list[int]:
        """Text entries per row that each layer still holds."""
        return self._any.held

    @property
    def gone(self) -> list[int]:
        """Text entries per row that each layer has evicted."""
        return [seen - held for seen, held in zip(self.seen, self.held, strict=True)]

    @property
    def peak(self) -> int:
        """The most text entries that a layer held of a row, counted after it has evicted."""
        return max(counts.peak for counts in self.layers.values())

    @property
    def bytes(self) -> int:
        """Keys and values of these layers after the last step."""
        return sum(counts.bytes for counts in self.layers.values())

    @property
    def peak_bytes(self) -> int:
        """The same at its largest, between steps."""
        return sum(counts.peak_bytes for counts in self.layers.values())

    @property
    def evicted(self) -> dict[int, list[list[tuple[int, int]]]]:
        """List, per row, each evicted entry's position and the newest token's at that time.

        Positions count the real tokens of the row as the LLM was given it, so what `asymvlm.prune`
        dropped before is not counted.
        """
        return {layer: counts.evicted() for layer, counts in self.layers.items()}


@dataclass
class EvictionReport:
    """The evicted entries, prompt by prompt."""

    calls: list[EvictionCall] = field(default_factory=list)
