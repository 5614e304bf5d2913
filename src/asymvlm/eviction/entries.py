"""The entries of one full-attention layer's cache."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..typing import Bool, Float, Int64


@dataclass
class Entries:
    """The entries of B rows in K slots, in no order: new entries reuse free slots.

    G groups of keys, W the policy's `window`. Of slots that are not `valid` (padding, or free)
    nothing else means anything.
    """

    keys: Float[Tensor, "B G K d"]  # rotated, as the layer attends to them
    valid: Bool[Tensor, "B K"]
    position: Int64[Tensor, "B K"]  # real tokens of the row before it
    # Text tokens of the row before it; -1 for vision, and where nothing is held.
    text_position: Int64[Tensor, "B K"]
    score: Float[Tensor, "B K"]  # what the policy makes of it
    # The same, for policies that keep several numbers per entry.
    attention_window: Float[Tensor, "B K W"]

    @property
    def text(self) -> Bool[Tensor, "B K"]:
        """Mark the text entries."""
        return self.text_position >= 0

    def changed(self, keys: Tensor, change: Callable[[Tensor], Tensor]) -> Entries:
        """Apply `change` to every field, with `keys` as the new keys."""
        return Entries(
            keys,
            *map(
                change,
                (self.valid, self.position, self.text_position, self.score, self.attention_window),
            ),
        )

    def at(self, keys: Tensor, slots: Int64[Tensor, "B n"]) -> Entries:
        """Select some slots."""
        return self.changed(
            keys,
            lambda item: torch.take_along_dim(
                item, slots if item.ndim == 2 else slots[..., None], 1
            ),
        )

    def and_then(self, keys: Tensor, new: Entries) -> Entries:
        """Append new entries."""
        pairs = zip(
            (self.valid, self.position, self.text_position, self.score, self.attention_window),
            (new.valid, new.position, new.text_position, new.score, new.attention_window),
            strict=True,
        )
        return Entries(keys, *(torch.cat(pair, dim=1) for pair in pairs))

    def write(self, slot: Int64[Tensor, "B 1"], new: Entries) -> None:
        """Write one new entry per row into a free slot."""
        self.valid.scatter_(1, slot, new.valid)
        self.position.scatter_(1, slot, new.position)
        self.text_position.scatter_(1, slot, new.text_position)
        self.score.scatter_(1, slot, new.score)
        if self.attention_window.shape[-1]:
            self.attention_window.scatter_(
                1, slot[..., None].expand_as(new.attention_window), new.attention_window
            )

    def free(self, slots: Int64[Tensor, "B n"], evicted_mask: Bool[Tensor, "B n"] | None) -> None:
        """Free all `slots`, or those that `evicted` names."""
        if evicted_mask is None:
            self.valid.scatter_(1, slots, False)
            self.text_position.scatter_(1, slots, -1)
        else:
            self.valid.scatter_(1, slots, self.valid.gather(1, slots) & ~evicted_mask)
            self.text_position.scatter_(
                1, slots, self.text_position.gather(1, slots).masked_fill(evicted_mask, -1)
            )
