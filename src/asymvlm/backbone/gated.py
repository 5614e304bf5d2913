"""Soft gates on vision tokens: a bias on the attention logits of their columns.

With the logarithm of a gate added to every attention logit of a token's column, a gate of 1 is the
token as it is and a gate of 0 is the token dropped, exactly: what lies between is differentiable.
The bias rides as one more channel of queries and keys (ones there, the bias here), so that no S x S
mask is made and every kernel of SDPA can run.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from ..typing import Float
from .attention_functions import in_the_llm

_NAME = "asymvlm_gates"


def _attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    column_bias: Float[Tensor, "B S"] | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    if column_bias is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    size, scaling = value.shape[-1], kwargs.pop("scaling", None) or query.shape[-1] ** -0.5
    channel = (column_bias / scaling).to(key)[:, None, :, None].expand(*key.shape[:-1], 1)
    query = torch.cat([query, torch.ones_like(query[..., :1])], -1)
    key = torch.cat([key, channel], -1)
    # Kernels want keys and values of one size.
    value = torch.nn.functional.pad(value, (0, key.shape[-1] - size))
    out, weights = sdpa_attention_forward(
        module, query, key, value, attention_mask, scaling=scaling, **kwargs
    )
    return out[..., :size], weights


def gating(model: PreTrainedModel) -> AbstractContextManager[None]:
    """Add `column_bias[b, s]` to the logits of column s in every LLM layer, while open."""
    return in_the_llm(model, _NAME, _attention)
