"""Attention functions of our own beside those of transformers, which lets them be registered by name.

They see queries and keys after rotary embedding and normalisation, so no family needs code of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import sdpa_mask


def register(name: str, function: Callable[..., Any]) -> None:
    """Make `function`, which computes by SDPA, known to transformers as `name`. Once is enough; more does no harm."""
    if name not in AttentionInterface._global_mapping:
        AttentionInterface.register(name, function)
        AttentionMaskInterface.register(name, sdpa_mask)


@contextmanager
def in_the_llm(model: PreTrainedModel, name: str, function: Callable[..., Any]) -> Iterator[None]:
    """While open, the LLM attends by `function`; afterwards the model is as it was."""
    register(name, function)
    text = model.config.get_text_config()
    place = "" if text is model.config else "text_config"
    before = text._attn_implementation
    model.set_attn_implementation({place: name})
    try:
        yield
    finally:
        model.set_attn_implementation({place: before})
