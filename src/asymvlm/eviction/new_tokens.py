"""The new tokens of one call: which are real, which are text, and their positions."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..typing import Bool, Int64


@dataclass
class NewTokens:
    """New tokens of B rows, q columns; the same for all layers but those above a pruned one."""

    real: Bool[Tensor, "B q"]
    position: Int64[Tensor, "B q"]  # real tokens of the row before it; -1 on padding
    # Text tokens of the row before it; -1 on vision and padding.
    text_position: Int64[Tensor, "B q"]
    newest: Int64[Tensor, "B 1"]  # position of the row's newest token
    text_seen: Int64[Tensor, "B 1"]  # text tokens of the row, new ones included
    counts: list[int]  # real new tokens per row
    texts: list[int]  # text among them

    def cut(self, columns: Int64[Tensor, "B k"], real: Bool[Tensor, "B k"]) -> NewTokens:
        """Select what is left of them above a layer that prunes."""
        real = self.real.gather(1, columns) & real
        position, text_position = (
            item.gather(1, columns).masked_fill(~real, -1)
            for item in (self.position, self.text_position)
        )
        return NewTokens(
            real,
            position,
            text_position,
            self.newest,
            self.text_seen,
            real.sum(-1).tolist(),
            self.texts,
        )


def new_tokens(
    mask: Tensor, vision: Bool[Tensor, "B q"], text_before: Int64[Tensor, "B 1"] | int
) -> NewTokens:
    """Describe the last q tokens of a sequence.

    `mask` `[B, S]` is 0 on its padding, `text_before` counts the text tokens before them.
    """
    new = vision.shape[1]
    real = mask[:, -new:].bool()
    position = mask.long().cumsum(-1)[:, -new:] - 1
    text = real & ~vision
    counted = text.cumsum(-1) + text_before
    return NewTokens(
        real,
        position.masked_fill(~real, -1),
        (counted - 1).masked_fill(~text, -1),
        position[:, -1:],
        counted[:, -1:],
        real.sum(-1).tolist(),
        text.sum(-1).tolist(),
    )
