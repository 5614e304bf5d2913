"""An oracle: the boxes that hold the answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ..typing import Float
from .base import Method, Tokens


class Evidence(Method):
    """Tokens by the share of their cell in an evidence box; key boxes count half.

    An evaluation tells it the samples by `begin`; each says what share of each cell of a grid `[n,
    3]` lies in a box: `evidence_share(grid)` and `key_share(grid)`, `[n]`.
    """

    kind = "evidence"
    state = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: list[Any] = []

    def begin(self, samples: Sequence[Any]) -> None:
        self._waiting = list(samples)

    def score(self, tokens: Tokens) -> Float[Tensor, "n"]:
        if not self._waiting:
            raise ValueError(
                "evidence: needs samples with evidence boxes; use it through eval.py on data that "
                "has them"
            )
        sample = self._waiting.pop(0)
        share = sample.evidence_share(tokens.grid) + 0.5 * sample.key_share(tokens.grid)
        return share.to(tokens.vision.device)
