"""A batch of prompts, its encoded pictures, and what is kept of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..typing import Bool, Float, Int64
from .tower.watch import TowerView


@dataclass
class EncodedPictures:
    """The pictures of a batch after tower and projector, as the LLM reads them."""

    # As the model made it, with all that goes along; by modality where the tokens stand in the
    # sequence.
    output: Any
    pictures: list[Float[Tensor, "n D"]]  # per picture or video, in the order of the batch
    kinds: list[str] = field(default_factory=list)  # the modality of each, likewise
    tower: TowerView | None = None  # what the tower computed, where it was watched
    # All vision tokens of the batch, sample by sample.
    rows: Float[Tensor, "T D"] = field(init=False)

    def __post_init__(self) -> None:
        # At once, with the caller's gradients; methods look at it without any.
        self.rows = torch.cat(self.pictures)


@dataclass
class Layout:
    """Places of vision and text tokens in a batch of prompts. S is the padded length."""

    input_ids: Int64[Tensor, "B S"]
    attention_mask: Int64[Tensor, "B S"]
    vision: Bool[Tensor, "B S"]  # all False in families whose vision tokens are not in the sequence
    grids: list[Int64[Tensor, "n 3"]]  # per sample: picture, row, column of each vision token
    # Token ids of the template and special ones, where they are known.
    template_ids: tuple[int, ...] = ()

    @property
    def text(self) -> Bool[Tensor, "B S"]:
        """Real tokens that are not vision."""
        return self.attention_mask.bool() & ~self.vision

    @property
    def after_pictures(self) -> Bool[Tensor, "B S"]:
        """Text behind the last picture: the question, with the template around it.

        All text of a sample that ends with a picture.
        """
        behind = self.text & (self.vision.flip(1).cumsum(1).flip(1) == 0)
        return torch.where(behind.any(1, keepdim=True), behind, self.text)

    @property
    def question(self) -> Bool[Tensor, "B S"]:
        """The question's own tokens.

        Text behind the last picture without template and special tokens.

        The one definition of a question's rows, for targets, oracles and methods. Where
        `template_ids` are not known, or leave nothing of a sample, it is `after_pictures`.
        """
        behind = self.after_pictures
        own = behind & ~torch.isin(self.input_ids, self.input_ids.new_tensor(self.template_ids))
        return torch.where(own.any(1, keepdim=True), own, behind)

    def counts(self) -> list[int]:
        """Vision tokens per sample."""
        return [len(grid) for grid in self.grids]


@dataclass
class Kept:
    """The kept tokens of one sample."""

    index: Int64[Tensor, "k"]  # ascending, into the sample's vision tokens
    # Where the method fuses; None keeps them as they are.
    features: Float[Tensor, "k D"] | None = None
    scores: Float[Tensor, "n"] | None = None


@dataclass
class Call:
    """A batch of prompts that a model is called with: pictures encoded, and what is kept of them.

    Which columns its layers read is known to the forward pass (`engine.ForwardPass`), and
    afterwards to the cache that it filled (`engine.PromptState`).
    """

    inputs: Mapping[str, Any]  # the caller's, by name
    encoded: EncodedPictures
    layout: Layout
    kept: list[Kept] = field(default_factory=list)  # of each sample, once it is chosen
    # What a family has to know of each row in later steps: `[B, ...]` each.
    family: tuple[Tensor, ...] = ()

    @property
    def drops(self) -> bool:
        """Return whether any vision token is dropped or fused."""
        return any(
            len(choice.index) < count or choice.features is not None
            for choice, count in zip(self.kept, self.layout.counts(), strict=True)
        )


def prompt_mask(inputs: Mapping[str, Any]) -> Int64[Tensor, "B S"]:
    """Return the mask of a batch of prompts, all ones where it is left out.

    Raises ValueError for masks of another form.
    """
    ids, mask = inputs["input_ids"], inputs.get("attention_mask")
    if mask is None:
        return torch.ones_like(ids)
    if mask.shape != ids.shape:
        raise ValueError(
            f"attention_mask: {tuple(mask.shape)} must be {tuple(ids.shape)}, [batch, columns of "
            "the prompt]"
        )
    return mask


def check_placeholders(tokens: int, placeholders: int) -> None:
    """Refuse prompts whose pictures have more tokens than their mask shows, or fewer."""
    if tokens != placeholders:
        raise ValueError(
            f"attention_mask: it shows {placeholders} placeholders, and the pictures have {tokens} "
            "tokens; leave pictures out instead of hiding them"
        )
