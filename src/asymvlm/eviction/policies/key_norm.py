"""Keys with a large norm get little attention."""

from __future__ import annotations

from torch import Tensor

from ...typing import Float
from ..base import Entries, Evictor, NewEntries


class KeyNorm(Evictor):
    """Evicts the entries with the largest L2 norm of their key (Devoto et al., arXiv 2406.11430).

    Mean over key heads, in fp32. Needs no attention. The keys are those of the cache: a model in
    half precision has rounded them, after their rotation, so that entries of one word are told
    apart by that rounding.

    The paper chooses for each head by itself and leaves the first two layers as they are; here all
    heads of a layer lose the same entries, in every layer.
    """

    kind = "key_norm"
    deviations = (
        "the heads of a layer lose the same entries (published: each its own)",
        "every layer loses entries (published: all but the first two)",
    )

    def initial_score(self, new: NewEntries) -> Float[Tensor, "B q"]:
        return new.keys.float().norm(dim=-1).mean(1)

    def rank(self, entries: Entries) -> Float[Tensor, "B K"]:
        return -entries.score
