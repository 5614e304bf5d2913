"""The arguments of a layer's attention function, and stages that act beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from ..typing import Float


@dataclass(frozen=True)
class AttentionInputs:
    """Arguments of one layer's attention, behind rotary embedding and normalisation."""

    module: nn.Module  # the attention module, with its `layer_idx`
    query: Float[Tensor, "B H q d"]
    key: Float[Tensor, "B G K d"]
    value: Float[Tensor, "B G K d"]
    mask: Tensor | None  # [B, 1, q, K], boolean or added; None where attention is plainly causal
    options: dict[str, Any]  # the keyword arguments that transformers passes

    @property
    def scaling(self) -> float | None:
        """The factor of the logits; None is d ** -0.5."""
        return self.options.get("scaling")


Attend = Callable[[AttentionInputs], tuple[Tensor, Any]]


class AttentionStage(Protocol):
    """The interface of what a forward pass takes as `attention_stage`."""

    def attend(self, next_attention: Attend, given: AttentionInputs) -> tuple[Tensor, Any]:
        """Do what there is to do beside `next_attention(given)`."""
