"""Checks before anything is decoded under `evict`."""

from __future__ import annotations

from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from ..backbone import Backbone
from ..backbone.families.cross_attention import CrossAttention
from ..engine import GenerateCall
from ..errors import DataError


def full_attention_layers(backbone: Backbone) -> list[int]:
    """List the LLM's full-attention layers.

    Raises DataError for models without a layer that can evict.
    """
    name = type(backbone.model).__name__
    if isinstance(backbone, CrossAttention):
        raise DataError(
            f"{name} reads pictures through cross-attention; asymvlm.evict needs image tokens in "
            "the sequence"
        )
    config = backbone.model.config.get_text_config()
    if getattr(config, "kv_sharing_modes", None):
        raise DataError(
            f"{name} shares keys between layers, which then would have to lose the same entries; "
            "use another model"
        )
    layers = DynamicCache(config=config).layers
    found = [number for number, layer in enumerate(layers) if type(layer) is DynamicLayer]
    if not found:
        raise DataError(
            f"{name} has no layer with full attention, so every entry leaves by itself; "
            "asymvlm.evict has nothing to do"
        )
    return found


def check_generation(call: GenerateCall) -> None:
    """Refuse settings of `generate` that leave no cache, take tokens back or cut a prompt."""
    if call.setting("use_cache") is False:
        raise ValueError("use_cache: False leaves no cache to evict from; leave it out")
    kind = call.setting("cache_implementation")
    if kind not in (None, "dynamic"):
        raise ValueError(
            f"cache_implementation: {kind!r} cannot lose entries; leave it out for a dynamic cache"
        )
    for name in ("assistant_model", "prompt_lookup_num_tokens"):
        if call.setting(name) is not None:
            raise ValueError(
                f"{name}: guessed tokens are taken back, and what left the cache on their account "
                "cannot return; leave it out"
            )
    if call.setting("prefill_chunk_size") is not None:
        raise ValueError(
            "prefill_chunk_size: a prompt is read in full before it is cut down; leave it out"
        )
