"""The interface of gates, and the threshold that all of them share."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from ..selectors import rank
from ..typing import Bool, Float

_HALVINGS = 64


class Gate(nn.Module, ABC):
    """From scores and a count per sample to gates in (0, 1], given as logarithms.

    Args:
        temperature: Of the first step. The gates are sigmoid((s_i + t) / temperature); a lower one
            is nearer to a hard choice.
        last_temperature: Of the last step; between the two it falls geometrically. None leaves it
            at `temperature`.
    """

    removes: ClassVar[bool] = False  # whether what is not chosen is out of sight

    def __init__(self, temperature: float = 1.0, last_temperature: float | None = None) -> None:
        super().__init__()
        last = temperature if last_temperature is None else last_temperature
        if not (0 < temperature < math.inf and 0 < last < math.inf):
            raise ValueError(
                f"temperature, last_temperature: {temperature}, {last} must be above 0; lower ones "
                "are harder"
            )
        self.first, self.last = temperature, last

    @abstractmethod
    def forward(
        self,
        scores: Float[Tensor, "B N"],
        mask: Bool[Tensor, "B N"],
        counts: Float[Tensor, "B"],
        progress: float,
    ) -> Float[Tensor, "B N"]:
        """Compute the logarithms of the gates; -inf on padding.

        `counts` may be fractions and may carry gradients; `progress` is the share of the training
        that is done, in [0, 1].
        """

    def soft(
        self,
        scores: Float[Tensor, "B N"],
        mask: Bool[Tensor, "B N"],
        counts: Float[Tensor, "B"],
        progress: float,
    ) -> Float[Tensor, "B N"]:
        """Compute log sigmoid((s_i + t) / temperature), t such that a sample's gates sum to its
        count.
        """
        scaled = scores.float() / (self.first * (self.last / self.first) ** progress)
        shifted = scaled + threshold(scaled, mask, counts.float())[:, None]
        return logsigmoid(shifted).masked_fill(~mask, -torch.inf)


class _Threshold(torch.autograd.Function):
    """t with sum_i sigmoid(s_i + t) = k, by bisection.

    Its gradient by the implicit function theorem.

    With v_i = m_i (1 - m_i): dt/ds_i = -v_i / sum v, dt/dk = 1 / sum v.
    """

    @staticmethod
    def forward(ctx: Any, scores: Tensor, mask: Tensor, counts: Tensor) -> Tensor:
        present = mask.sum(-1)
        inner = counts.clamp(max=present - 1e-3)[:, None]  # all gates open is t = infinity
        low = -scores.masked_fill(~mask, -torch.inf).amax(-1, keepdim=True) - 40.0
        high = -scores.masked_fill(~mask, torch.inf).amin(-1, keepdim=True) + 40.0
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            few = (torch.sigmoid(scores + middle) * mask).sum(-1, keepdim=True) < inner
            low, high = torch.where(few, middle, low), torch.where(few, high, middle)
        t = (low + high) / 2
        gates = torch.sigmoid(scores + t) * mask
        ctx.save_for_backward(gates * (1 - gates), counts < present - 1e-3)
        return t.squeeze(-1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, Tensor]:
        slopes, inside = ctx.saved_tensors
        total = slopes.sum(-1).clamp_min(1e-6)
        gradient = gradients[0]
        return -gradient[:, None] * slopes / total[:, None], None, gradient * inside / total


def threshold(
    scores: Float[Tensor, "B N"], mask: Bool[Tensor, "B N"], counts: Float[Tensor, "B"]
) -> Float[Tensor, "B"]:
    """Find t such that sigmoid(s_i + t) sums to the count over a sample's own tokens.

    Differentiable in scores and counts.

    A count of all tokens (or more) opens every gate to within 1e-3 of their sum.
    Reference: differentiable top-k of VisionSelector, arXiv 2510.16598.
    """
    return _Threshold.apply(scores, mask, counts)


def at_least_one(counts: Float[Tensor, "B"]) -> Float[Tensor, "B"]:
    """Raise counts to 1 where less is asked for; gradients pass unchanged.

    Without them a budget head that sparsity has once pushed below one token would never hear what
    that costs.
    """
    return counts + (1 - counts).clamp_min(0).detach()


def hard_choice(
    scores: Float[Tensor, "B N"], mask: Bool[Tensor, "B N"], counts: Float[Tensor, "B"]
) -> Bool[Tensor, "B N"]:
    """Mark each sample's best tokens, as many as its count rounded half up, at least one.

    Ranks as `selectors.top_k` does, so that training keeps what pruning will keep.
    """
    ordered = scores.detach().masked_fill(~mask, -torch.inf)
    ranks = rank(ordered).argsort(dim=-1)
    return (ranks < (counts.detach()[:, None] + 0.5).floor().clamp_min(1)) & mask
