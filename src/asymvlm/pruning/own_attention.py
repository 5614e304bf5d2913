"""Queries and keys of a decoder layer, computed before it runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ..engine import Attend, AttentionInputs
from ..typing import Float


class _Notes:
    """Notes what an attention function is called with, and computes nothing."""

    given: AttentionInputs | None = None

    def attend(self, next_attention: Attend, given: AttentionInputs) -> tuple[Tensor, Any]:
        self.given = given
        batch, heads, rows, _ = given.query.shape
        return given.value.new_zeros(batch, rows, heads, given.value.shape[-1]), None


def own_attention(
    layer: nn.Module, hidden: Float[Tensor, "B S D"], kwargs: Mapping[str, Any]
) -> AttentionInputs:
    """Work out a layer's queries and keys of `hidden`, ahead of its own call with `kwargs`.

    Nothing is written to a cache. Raises ValueError for a layer that is not made of a norm and
    attention.
    """
    norm, attention = getattr(layer, "input_layernorm", None), getattr(layer, "self_attn", None)
    if norm is None or attention is None:
        raise ValueError(
            f"own_layer: a {type(layer).__name__} has no input_layernorm and self_attn to work its "
            "attention out ahead of time; set own_layer to False for that of the layer below"
        )
    notes = _Notes()
    own = {"past_key_values": None, "use_cache": False, "attention_stage": notes}
    attention(hidden_states=norm(hidden), **{**kwargs, **own})
    assert notes.given is not None, "layers attend through `attention_stage` while pruned"
    return notes.given
