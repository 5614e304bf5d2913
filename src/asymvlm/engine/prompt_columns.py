"""The columns of a prompt that are left, and tensors with as many columns as either."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..selectors import left_pack
from ..typing import Bool, Float, Int64


@dataclass
class PromptColumns:
    """The columns that LLM layers read from `layer` on; B rows, K of S columns, left-padded."""

    layer: int
    index: Int64[Tensor, "B K"]  # columns of the prompt, ascending in each row
    real: Bool[Tensor, "B K"]  # False on padding

    @classmethod
    def of(cls, stay: Bool[Tensor, "B S"], layer: int = 0) -> PromptColumns:
        """Take the columns that `stay` marks."""
        return cls(layer, *left_pack(stay))

    @classmethod
    def whole(cls, attention_mask: Int64[Tensor, "B S"]) -> PromptColumns:
        """Take all columns, padding where it was."""
        columns = torch.arange(attention_mask.shape[1], device=attention_mask.device)
        return cls(0, columns.expand_as(attention_mask), attention_mask.bool())

    def narrowed(self, stay: Bool[Tensor, "B K"], layer: int) -> PromptColumns:
        """Take those of these columns that `stay` marks, from a later layer on."""
        columns, real = left_pack(stay)
        return PromptColumns(layer, self.index.gather(1, columns), real)

    def rows(self, chosen: Int64[Tensor, "n"]) -> PromptColumns:
        """Take some rows of the batch, perhaps several times."""
        return replace(self, index=self.index[chosen], real=self.real[chosen])

    def first(self, length: int) -> PromptColumns:
        """Leave out the columns from `length` on, of which no row has lost any."""
        kept = self.index.shape[1] - int((self.index[0] >= length).sum())
        return replace(self, index=self.index[:, :kept], real=self.real[:, :kept])

    def gather(self, table: Tensor) -> Tensor:
        """Pick the columns of `table` `[*, B, S]`; a batch of 1 serves all rows."""
        table = table.expand(*table.shape[:-2], len(self.index), table.shape[-1])
        return table.gather(-1, self.index.expand(*table.shape[:-1], -1))

    def gather_states(self, table: Float[Tensor, "*p B S D"]) -> Float[Tensor, "*p B K D"]:
        """Pick the columns of `table`; a batch of 1 serves all rows."""
        table = table.expand(*table.shape[:-3], len(self.index), *table.shape[-2:])
        shape = (*table.shape[:-2], self.index.shape[1], table.shape[-1])
        return table.gather(-2, self.index[..., None].expand(shape))

    def scatter_states(self, states: Float[Tensor, "B K D"], length: int) -> Float[Tensor, "B S D"]:
        """Put states into the prompt's `length` columns, 0 where tokens were dropped."""
        full = states.new_zeros(len(states), length, states.shape[-1])
        states = states.masked_fill(~self.real[..., None], 0)
        # Padding adds 0.
        return full.scatter_add(1, self.index[..., None].expand_as(states), states)

    def scatter_step(self, weights: Float[Tensor, "B H q T"], length: int) -> Tensor:
        """Put a later step's attention weights to the K columns, the first of T, where they were.

        What follows them stays behind the prompt's `length` columns.
        """
        count = self.index.shape[1]
        prompt = weights[..., :count].flatten(1, 2).transpose(1, 2)
        wide = self.scatter_states(prompt, length).transpose(1, 2).unflatten(1, weights.shape[1:3])
        return torch.cat([wide, weights[..., count:]], dim=-1)

    def scatter_attention(
        self, weights: Float[Tensor, "B H K K"], length: int
    ) -> Float[Tensor, "B H S S"]:
        """Put attention weights into the prompt's rows and columns, 0 where tokens were dropped."""
        heads = weights.shape[1]
        wide = self.scatter_states(weights.permute(0, 3, 1, 2).flatten(2), length)
        wide = wide.unflatten(-1, (heads, -1)).permute(0, 3, 2, 1).flatten(2)
        return self.scatter_states(wide, length).unflatten(-1, (heads, -1)).transpose(1, 2)
