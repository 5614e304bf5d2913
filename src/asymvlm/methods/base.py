"""The one interface of all methods, built in or not."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from ..selectors import top_k
from ..shapes import Float, Int64


@dataclass
class Tokens:
    """What a method sees of one sample, before the LLM. n vision tokens, L text tokens, D the LLM's width.

    The last three are worked out only when a method calls them.
    """

    vision: Float[Tensor, "n D"]
    text: Float[Tensor, "L D"]  # the LLM's embeddings of every real text token, template and special ones included
    text_ids: Int64[Tensor, "L"]
    grid: Int64[Tensor, "n 3"]  # picture, row, column
    vision_attention: Callable[[], Float[Tensor, "n"]]  # CLS row (or mean received attention) of the tower's feature layer
    relevance: Callable[[str], Float[Tensor, "n"]]  # the dense LLM's attention from "question", "last" or "answer" rows
    at_resolution: Callable[[int, int], Float[Tensor, "m D"]]  # features of the picture seen at rows x columns tokens


class Method(ABC):
    """Says which vision tokens to keep. Override `score`; the rest has defaults.

    One object serves one `prune`; it is called once per sample and must not depend on other samples.
    """

    kind: ClassVar[str]
    reads_tower: ClassVar[bool] = False  # True has the tower watched while it runs; else `vision_attention` runs it again

    def score(self, tokens: Tokens) -> Float[Tensor, "n"]:
        """Importance of each vision token; higher keeps."""
        raise NotImplementedError(f"{type(self).__name__} must define score(tokens) or select(tokens, count)")

    def select(self, tokens: Tokens, count: int) -> Int64[Tensor, "count"]:
        """Indices of the `count` tokens to keep, ascending. Override it for methods that choose a set, not a ranking."""
        return top_k(self.score(tokens), count)

    def merge(self, tokens: Tokens, kept: Int64[Tensor, "k"]) -> Float[Tensor, "k D"]:
        """Features of the kept tokens. Override it for methods that fuse what they drop into what they keep."""
        return tokens.vision[kept]

    def budget(self, tokens: Tokens) -> float:
        """The keep ratio in (0, 1] for `keep="auto"`."""
        raise ValueError(f'keep: "auto" needs a method with a budget head; {type(self).__name__} has none, give a share or a count')

    def begin(self, samples: Sequence[Any]) -> None:  # noqa: B027 - a default, not a duty
        """Told by an evaluation which samples the next batch holds; only oracles listen."""
