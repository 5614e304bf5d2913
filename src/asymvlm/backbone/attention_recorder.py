"""Record the attention of a few query rows at the cost of plain SDPA.

Beside SDPA, and for the rows that a recorder names, softmax(q_rows K^T) is computed: O(rows * S)
instead of the O(S^2) of `output_attentions`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..engine import Attend, AttentionInputs, attends_through_stages
from ..typing import Bool, Float
from .attention_probs import attention_probs, causal_rows


class _EnoughError(Exception):
    """Raised to end a forward pass once enough layers are recorded."""


class AttentionRecorder:
    """Attention from chosen query rows to chosen key columns, reduced over rows and heads.

    `rows` weighs each query row of each sample (0 leaves it out); `columns` says which keys are of
    interest. The result of each recorded layer is `[B, K]`: attention mass, zero outside `columns`.
    `only` names the attention modules to listen to, where not all. With `over_rows` "max" weights
    only say which rows count. With `count` the forward pass ends after so many recorded layers, in
    `record_first_layers`.
    """

    def __init__(
        self,
        rows: Float[Tensor, "B S"],
        columns: Bool[Tensor, "B K"],
        heads: str = "mean",
        only: Sequence[nn.Module] | None = None,
        over_rows: str = "mean",
        count: int | None = None,
    ) -> None:
        for name, value in (("heads", heads), ("over_rows", over_rows)):
            if value not in ("mean", "max"):
                raise ValueError(f"{name}: {value!r} must be 'mean' or 'max'")
        self.heads, self.over_rows = heads, over_rows
        self.columns, self.count = columns, count
        self.only = None if only is None else {id(module) for module in only}
        self.layers: list[Float[Tensor, "B K"]] = []
        # The union of wanted rows over the batch, so that one gather serves all samples.
        self.index = rows.ne(0).any(0).nonzero().squeeze(-1)
        self.weights = rows[:, self.index]

    def attend(self, next_attention: Attend, given: AttentionInputs) -> tuple[Tensor, Any]:
        """Record a layer; the recorder is the `attention_stage` of a forward pass."""
        self.record(given)
        if self.count is not None and len(self.layers) == self.count:
            raise _EnoughError
        return next_attention(given)

    def record(self, given: AttentionInputs) -> None:
        """Add one layer's attention."""
        if self.only is not None and id(given.module) not in self.only:
            return
        length, keys = given.query.shape[2], given.key.shape[2]
        if given.mask is None:
            mask = causal_rows(self.index, keys, keys - length)[None, None]
        else:
            mask = given.mask[:, :, self.index]
        mass = attention_probs(given.query[:, :, self.index], given.key, mask, given.scaling)
        mass = mass.mean(1) if self.heads == "mean" else mass.amax(1)
        if self.over_rows == "max":
            recorded = (mass * self.weights.ne(0)[..., None]).amax(1)
        else:
            weights = (self.weights / self.weights.sum(-1, keepdim=True).clamp_min(1e-12)).to(mass)
            recorded = torch.einsum("bq,bqk->bk", weights, mass)
        self.layers.append(recorded * self.columns)


def record_first_layers(
    model: PreTrainedModel, call: Mapping[str, Any], recorder: AttentionRecorder
) -> None:
    """Run the model until `recorder` has `recorder.count` layers."""
    with attends_through_stages(model), suppress(_EnoughError):
        model.base_model(**call, use_cache=False, attention_stage=recorder)
