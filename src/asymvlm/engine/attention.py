"""The one attention function that this package registers with transformers.

It computes by SDPA and sees queries and keys after rotary embedding and normalisation, so that no
family needs code of its own. A forward pass that should do more hands an `AttentionStage` along as
the keyword `attention_stage`: what it does then belongs to that call alone.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from .attention_inputs import AttentionInputs, AttentionStage

ATTENTION_NAME = "asymvlm"
_lock = threading.RLock()
# How often the function is asked for, by model, and what the LLM attended by before.
_open: WeakKeyDictionary[nn.Module, tuple[int, str]] = WeakKeyDictionary()


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    attention_stage: AttentionStage | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Any]:
    if attention_stage is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    given = AttentionInputs(module, query, key, value, attention_mask, kwargs)
    return attention_stage.attend(_by_sdpa, given)


def _by_sdpa(given: AttentionInputs) -> tuple[Tensor, Any]:
    return sdpa_attention_forward(
        given.module, given.query, given.key, given.value, given.mask, **given.options
    )


def register(name: str, function: Callable[..., Any]) -> None:
    """Register `function`, which computes by SDPA, with transformers as `name`; once is enough."""
    if name not in AttentionInterface._global_mapping:
        AttentionInterface.register(name, function)
        AttentionMaskInterface.register(name, sdpa_mask)


@contextmanager
def attends_through_stages(model: PreTrainedModel) -> Iterator[None]:
    """Make the LLM's attention use `attention_stage` while open; contexts may be nested."""
    register(ATTENTION_NAME, _attention)
    text = model.config.get_text_config()
    place = "" if text is model.config else "text_config"
    with _lock:
        count, before = _open.get(model, (0, text._attn_implementation))
        if count == 0:
            model.set_attn_implementation({place: ATTENTION_NAME})
        _open[model] = count + 1, before
    try:
        yield
    finally:
        with _lock:
            count, before = _open.pop(model)
            if count > 1:
                _open[model] = count - 1, before
            elif text._attn_implementation == ATTENTION_NAME:
                model.set_attn_implementation({place: before})


def always_masks(model: PreTrainedModel) -> bool:
    """Return whether a model of its own, without contexts, makes masks where nothing is hidden."""
    now = model.config.get_text_config()._attn_implementation
    with _lock:
        _, before = _open.get(model, (0, now))
    return not (before == "sdpa" or before.startswith("flash"))


def restore_attention(model: PreTrainedModel, memo: dict[int, Any]) -> None:
    """Have a deep copy that is being made attend as the model did before; `memo` is that copy's."""
    with _lock:
        _, before = _open.get(model, (0, ""))
    for module in model.modules():
        if before and isinstance(module, PreTrainedModel):
            config = copy.deepcopy(module.config, memo)
            if config._attn_implementation == ATTENTION_NAME:
                config._attn_implementation = before
