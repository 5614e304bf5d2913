"""Soft gates on vision tokens: a bias on the attention logits of their columns.

With the logarithm of a gate added to every attention logit of a token's column, a gate of 1 is the
token as it is and a gate of 0 is the token dropped, exactly: what lies between is differentiable.
The bias rides as one more channel of queries and keys (ones there, the bias here), so that no S x S
mask is made and every kernel of SDPA can run.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..engine import Attend, AttentionInputs
from ..typing import Float


@dataclass
class ColumnGate:
    """Adds `bias[b, s]` to the logits of column s in every LLM layer.

    The `attention_stage` of a forward pass.
    """

    bias: Float[Tensor, "B S"]

    def attend(self, next_attention: Attend, given: AttentionInputs) -> tuple[Tensor, Any]:
        """Attend with the bias as one more channel."""
        query, key, size = given.query, given.key, given.value.shape[-1]
        scaling = given.scaling or query.shape[-1] ** -0.5
        channel = (self.bias / scaling).to(key)[:, None, :, None].expand(*key.shape[:-1], 1)
        key = torch.cat([key, channel], -1)
        biased = replace(
            given,
            query=torch.cat([query, torch.ones_like(query[..., :1])], -1),
            key=key,
            # Kernels want keys and values of one size.
            value=torch.nn.functional.pad(given.value, (0, key.shape[-1] - size)),
            options={**given.options, "scaling": scaling},
        )
        out, weights = next_attention(biased)
        return out[..., :size], weights
