"""The interface of all methods, built in or not."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..backbone.tower.projector import Project
from ..backbone.tower.watch import TowerView
from ..selectors import top_k
from ..typing import Bool, Float, Int64


@dataclass(frozen=True)
class LayerView:
    """States, attention and keys of the decoder layer below a method's own; keys are rotated.

    G groups of keys, H heads, L text tokens, n vision tokens.
    """

    keys: Float[Tensor, "n G*d"]
    text_keys: Float[Tensor, "L G*d"]
    # Of some of the text's rows, to the vision tokens that are left.
    attention: Callable[[slice | Tensor], Float[Tensor, "H l n"]]
    # The same of the method's own layer, worked out before it runs.
    own_attention: Callable[[slice | Tensor], Float[Tensor, "H l n"]]
    # The norm behind the LLM's last layer.
    final_norm: Callable[[Float[Tensor, "m D"]], Float[Tensor, "m D"]]


@dataclass
class Tokens:
    """One sample as a method sees it. n vision tokens, L text tokens, D the LLM's hidden size.

    `vision` and `text` are what the layer reads that the method stands before; the LLM's own inputs
    where it stands before the LLM. What is callable is worked out only when a method calls it.
    """

    vision: Float[Tensor, "n D"]
    text: Float[Tensor, "L D"]  # of every real text token, template and special ones included
    text_ids: Int64[Tensor, "L"]
    question: Bool[Tensor, "L"]  # what was asked (`Layout.question`)
    grid: Int64[Tensor, "n 3"]  # picture, row, column
    tower: Callable[[], TowerView]  # attention, keys and states of the vision tower's feature layer
    # How much the pixels of each token differ: their standard deviation.
    pixel_contrast: Callable[[], Float[Tensor, "n"]]
    # The dense LLM's attention from "question", "last" or "answer" rows.
    dense_attention: Callable[[str], Float[Tensor, "n"]]
    # Features of the picture seen at rows x columns tokens.
    at_resolution: Callable[[int, int], Float[Tensor, "m D"]]
    below: Callable[[], LayerView]  # of the layer below, for methods inside the LLM
    template: Bool[Tensor, "L"] | None = (
        # What the template writes around the question behind the last picture, where it is known.
        None
    )
    # The model's projector, from states of the tower to features; gives None where a token is not
    # the projector's output for one state.
    projector: Callable[[], Project | None] = lambda: None
    # All vision tokens and the text as the LLM's first layer reads them; None stands for `vision`
    # and `text`.
    llm_inputs: Callable[[], tuple[Float[Tensor, "N D"], Float[Tensor, "L D"]]] | None = None

    @property
    def after_pictures(self) -> Bool[Tensor, "L"]:
        """Text behind the last picture, template included.

        All text where there is none behind it.
        """
        behind = self.question if self.template is None else self.question | self.template
        return behind if bool(behind.any()) else torch.ones_like(behind)


class Method(ABC):
    """Chooses which vision tokens to keep. Override `score`; the rest has defaults.

    One object serves one `prune`; it is called once per sample (and stage) and must not depend on
    other samples.
    """

    kind: ClassVar[str]
    # Attributes that change while it works, and are no settings.
    state: ClassVar[tuple[str, ...]] = ()
    # True has the tower watched while it runs; else `tokens.tower()` runs it again.
    reads_tower: bool = False
    layer: int | None = None  # the LLM layer before which it acts; None stands for before the LLM
    adapter: Path | None = None  # a peft directory that is active on the model meanwhile
    # How it differs from what its authors published; tables of results name it.
    deviations: tuple[str, ...] = ()

    def score(self, tokens: Tokens) -> Float[Tensor, "n"]:
        """Importance of each vision token; higher keeps."""
        raise NotImplementedError(
            f"{type(self).__name__} must define score(tokens) or select(tokens, count)"
        )

    def select(self, tokens: Tokens, count: int) -> Int64[Tensor, "count"]:
        """Choose `count` tokens, ascending.

        Override it for methods that choose a set, not a ranking.
        """
        return top_k(self.score(tokens), count)

    def merge(self, tokens: Tokens, kept: Int64[Tensor, "k"]) -> Float[Tensor, "k D"]:
        """Return features of the kept tokens.

        Override it for methods that fuse dropped ones into them.
        """
        return tokens.vision[kept]

    def budget(self, tokens: Tokens) -> float:
        """The keep ratio in (0, 1] for `keep="auto"`."""
        raise ValueError(
            f'keep: "auto" needs a method with a budget head; {type(self).__name__} has none, '
            "give a share or a count"
        )

    def stages(self, count: int, total: int, depth: int) -> dict[int, int]:
        """Return the tokens left from each LLM layer on. Override it for several stages."""
        assert self.layer is not None
        return {self.layer: count}

    def check_model(self, model: Any) -> list[str]:
        """Check the model that it is to act on; return what its user should be warned of.

        Raises ValueError for a model that it cannot act on.
        """
        return []

    def begin(self, samples: Sequence[Any]) -> None:  # noqa: B027 - a default, not a duty
        """Receive the samples of the next batch, in evaluations; only oracles use them."""
