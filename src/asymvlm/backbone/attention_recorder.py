"""Record the attention of a few query rows at the cost of plain SDPA.

Our attention function calls SDPA and, for the rows that a recorder names, computes softmax(q_rows
K^T) beside it: O(rows * S) instead of the O(S^2) of `output_attentions`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from ..typing import Bool, Float
from .attention_functions import in_the_llm
from .attention_probs import attention_probs, causal_rows

_NAME = "asymvlm_rows"


class AttentionRecorder:
    """Attention from chosen query rows to chosen key columns, reduced over rows and heads.

    `rows` weighs each query row of each sample (0 leaves it out); `columns` says which keys are of
    interest. The result of each recorded layer is `[B, K]`: attention mass, zero outside `columns`.
    `only` names the attention modules to listen to, where not all. With `over_rows` "max" weights
    only say which rows count.
    """

    def __init__(
        self,
        rows: Float[Tensor, "B S"],
        columns: Bool[Tensor, "B K"],
        heads: str = "mean",
        only: Sequence[nn.Module] | None = None,
        over_rows: str = "mean",
    ) -> None:
        for name, value in (("heads", heads), ("over_rows", over_rows)):
            if value not in ("mean", "max"):
                raise ValueError(f"{name}: {value!r} must be 'mean' or 'max'")
        self.heads, self.over_rows = heads, over_rows
        self.columns = columns
        self.only = None if only is None else {id(module) for module in only}
        self.layers: list[Float[Tensor, "B K"]] = []
        # The union of wanted rows over the batch, so that one gather serves all samples.
        self.index = rows.ne(0).any(0).nonzero().squeeze(-1)
        self.weights = rows[:, self.index]

    def record(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        mask: Tensor | None,
        scaling: float | None,
    ) -> None:
        """Add one layer's attention; `query` is `[B, H, S, d]`, `key` `[B, G, S, d]`."""
        if self.only is not None and id(module) not in self.only:
            return
        length, keys = query.shape[2], key.shape[2]
        if mask is None:
            mask = causal_rows(self.index, keys, keys - length)[None, None]
        else:
            mask = mask[:, :, self.index]
        mass = attention_probs(query[:, :, self.index], key, mask, scaling)
        mass = mass.mean(1) if self.heads == "mean" else mass.amax(1)
        if self.over_rows == "max":
            recorded = (mass * self.weights.ne(0)[..., None]).amax(1)
        else:
            weights = (self.weights / self.weights.sum(-1, keepdim=True).clamp_min(1e-12)).to(mass)
            recorded = torch.einsum("bq,bqk->bk", weights, mass)
        self.layers.append(recorded * self.columns)


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    attention_recorder: AttentionRecorder | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    if attention_recorder is not None:
        attention_recorder.record(module, query, key, attention_mask, kwargs.get("scaling"))
    return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)


def recording(model: PreTrainedModel) -> AbstractContextManager[None]:
    """Fill `recorder` in `model(**inputs, attention_recorder=recorder)` while open."""
    return in_the_llm(model, _NAME, _attention)


def record_first_layers(
    model: PreTrainedModel,
    decoder: Any,
    call: Mapping[str, Any],
    recorder: AttentionRecorder,
    depth: int,
) -> None:
    """Run the first `depth` layers of the model's `decoder` alone, and record them."""
    layers = decoder.layers
    decoder.layers = layers[:depth]
    try:
        with recording(model):
            model.base_model(**call, use_cache=False, attention_recorder=recorder)
    finally:
        decoder.layers = layers
