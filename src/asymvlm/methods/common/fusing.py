"""Kept tokens that are sums over all tokens, in front of the projector or behind it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ...typing import Float, Int64
from ..base import Tokens

# What is left of a deviation that `before_projector=True` does without where it can.
BEHIND = "fused behind the projector (published: in front of it)"
BEHIND_SOMETIMES = "fused behind the projector where a token is not one state of the tower"


def fused_features(
    tokens: Tokens,
    kept: Int64[Tensor, "k"],
    combine: Callable[[Float[Tensor, "n C"]], Float[Tensor, "k C"]],
    before_projector: bool,
) -> Float[Tensor, "k D"]:
    """Features of the tokens that `combine` makes of all rows, in fp32: of states or of features.

    Of states, which the projector then reads, where the model lets each token be told as the
    projector's output for one state; of features behind it elsewhere, and with `before_projector`
    False.
    """
    project = tokens.projector() if before_projector else None
    if project is None:
        return combine(tokens.vision.float()).to(tokens.vision.dtype)
    states = combine(tokens.tower().states.float())
    # The end of a line has no state: the projector does not make it.
    is_state = states.any(-1, keepdim=True)
    return torch.where(is_state, project(states).to(tokens.vision.dtype), tokens.vision[kept])
