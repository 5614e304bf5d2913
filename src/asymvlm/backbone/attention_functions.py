"""Attention functions registered with transformers by name, beside its own.

They see queries and keys after rotary embedding and normalisation, so no family needs code of its
own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import sdpa_mask


def register(name: str, function: Callable[..., Any]) -> None:
    """Register `function`, which computes by SDPA, with transformers as `name`; once is enough."""
    if name not in AttentionInterface._global_mapping:
        AttentionInterface.register(name, function)
        AttentionMaskInterface.register(name, sdpa_mask)


@contextmanager
def in_the_llm(model: PreTrainedModel, name: str, function: Callable[..., Any]) -> Iterator[None]:
    """Let the LLM attend by `function` while open; afterwards the model is as it was."""
    register(name, function)
    text = model.config.get_text_config()
    place = "" if text is model.config else "text_config"
    before = text._attn_implementation
    model.set_attn_implementation({place: name})
    try:
        yield
    finally:
        model.set_attn_implementation({place: before})
