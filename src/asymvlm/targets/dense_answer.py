"""The share of vision tokens at which the teacher still gives its dense answer."""

from __future__ import annotations

import torch
from torch import Tensor

from ..backbone import Backbone, Call, Kept
from ..selectors import count_for, top_k
from ..typing import Float
from .attention import dense_answers
from .base import EncodedBatch


@torch.no_grad()
def dense_answer_shares(
    backbone: Backbone,
    batch: EncodedBatch,
    importance: list[Float[Tensor, "n"]],
    ladder: list[float],
) -> Float[Tensor, "B"]:
    """Find the smallest share of `ladder` from which on the greedy answer stays the dense one.

    1 where none does. Tokens are kept along `importance`, the best first.
    """
    dense = dense_answers(backbone, dict(batch.inputs))
    smallest = torch.ones(len(importance))
    # No disagreement yet, coming from above.
    open_still = torch.ones(len(importance), dtype=torch.bool)
    for share in sorted(ladder, reverse=True):
        kept = [Kept(top_k(item, count_for(float(share), len(item)))) for item in importance]
        call = Call(batch.inputs, batch.encoded, batch.layout, kept)
        pruned = backbone.drop(call, generating=True)
        answers = dense_answers(backbone, pruned)
        for sample, (got, want) in enumerate(zip(answers, dense, strict=True)):
            open_still[sample] &= torch.equal(got, want)
        smallest[open_still] = float(share)
    return smallest
