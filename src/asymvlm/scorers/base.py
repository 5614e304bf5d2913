"""The interface of scorers.

Shape letters in this package: B samples, N vision tokens (padded), L text tokens (padded), D the
LLM's width, R a small rank.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..limits import check_at_least
from ..typing import Bool, Float, Int64


@dataclass
class TokenBatch:
    """A batch as the scorer sees it: the LLM's input, before the LLM.

    `grid` holds for each vision token its picture's number within the sample and its row and column
    in that picture, with the picture's upper left token at row 0, column 0.
    """

    vision: Float[Tensor, "B N D"]
    vision_mask: Bool[Tensor, "B N"]  # False on padding
    text: Float[Tensor, "B L D"]
    # False on padding and on tokens that are masked: template, special.
    text_mask: Bool[Tensor, "B L"]
    grid: Int64[Tensor, "B N 3"]  # picture, row, column

    @classmethod
    def single(
        cls, vision: Tensor, text: Tensor, grid: Tensor, text_mask: Tensor | None = None
    ) -> TokenBatch:
        """Make a batch of one sample from `[N, D]`, `[L, D]` and `[N, 3]`."""
        if text_mask is None:
            text_mask = torch.ones(text.shape[0], dtype=torch.bool, device=text.device)
        mask = torch.ones(vision.shape[0], dtype=torch.bool, device=vision.device)
        return cls(vision[None], mask[None], text[None], text_mask[None], grid[None])

    def to(self, *args: Any, **kwargs: Any) -> TokenBatch:
        """Move to a device; a dtype applies to the features alone."""
        device = torch.empty(0).to(*args, **kwargs).device if args or kwargs else self.vision.device
        return TokenBatch(
            self.vision.to(*args, **kwargs),
            self.vision_mask.to(device),
            self.text.to(*args, **kwargs),
            self.text_mask.to(device),
            self.grid.to(device),
        )


# Arguments of scorers that are numbers of something.
_SIZES = ("rank", "hidden", "heads")


class Scorer(nn.Module, ABC):
    """From vision tokens and text to one score per vision token; higher is kept.

    A subclass sets `kind`, takes `width` (the LLM's D) and its own plain arguments in `__init__`,
    and hands all of them to `super().__init__` so that a checkpoint can rebuild it.
    """

    kind: ClassVar[str]

    def __init__(self, width: int, **arguments: int | float | bool | str) -> None:
        super().__init__()
        if width < 1:
            raise ValueError(f"width: {width} must be the LLM's hidden size, at least 1")
        sizes = {name: arguments[name] for name in _SIZES if name in arguments}
        check_at_least(1, sizes)  # type: ignore[arg-type]
        self.width = width
        self.arguments: dict[str, int | float | bool | str] = {"width": width, **arguments}

    @abstractmethod
    def forward(self, batch: TokenBatch) -> Float[Tensor, "B N"]:
        """Compute scores, fit for a softmax over a sample's own tokens.

        Padding holds anything finite.
        """


def unit(rows: Float[Tensor, "*b D"]) -> Float[Tensor, "*b D"]:
    """Scale rows to length one; zero rows stay zero."""
    return nn.functional.normalize(rows, dim=-1)


def max_over_text(
    similarity: Float[Tensor, "B N L"], text_mask: Bool[Tensor, "B L"]
) -> Float[Tensor, "B N"]:
    """Maximum over unmasked text tokens for each vision token; zero without any."""
    best = similarity.masked_fill(~text_mask[:, None, :], -torch.inf).amax(-1)
    return torch.where(text_mask.any(-1, keepdim=True), best, torch.zeros_like(best))
