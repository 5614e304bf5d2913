"""MACs and bytes of prefill, cache and decoding, from the model's config alone.

One multiply-accumulate (MAC) is two FLOPs.

Counted are matrix products, convolutions and both products of attention over all pairs of
positions, as torch's FlopCounterMode counts them: no norms, activations, biases, rotary embedding
or softmax. The test suite holds the two against each other.

Everywhere `vision_tokens` is one count for all decoder layers, or one count per layer for methods
that prune inside the LLM.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from .vision_cost import vision_macs


@dataclass(frozen=True)
class PrefillCost:
    """MACs of one sample's prefill, by part."""

    tower: int
    projector: int
    llm: int
    method: int = 0

    @property
    def total(self) -> int:
        return self.tower + self.projector + self.llm + self.method


def prefill_cost(
    config: Any,
    vision_tokens: int | Sequence[int],
    text_tokens: int,
    pictures: int | Iterable[Iterable[int]] = 1,
    method: int = 0,
) -> PrefillCost:
    """Count one sample's prefill with `vision_tokens` left; tower and projector see every patch.

    Args:
        config: Of the whole model.
        vision_tokens: Of all pictures together.
        text_tokens: All others, at least one in every layer.
        pictures: How many pictures or tiles, where the tower sees all at one size; in the Qwen
            family their `image_grid_thw`.
        method: MACs of choosing the tokens.

    Raises ValueError for a tower, projector or decoder that is not covered, and for counts that fit
    neither tower nor layers.
    """
    tower, projector = vision_macs(config, pictures)
    return PrefillCost(tower, projector, llm_macs(config, vision_tokens, text_tokens), method)


def llm_macs(config: Any, vision_tokens: int | Sequence[int], text_tokens: int) -> int:
    """Count the LLM's MACs of such a prefill, logits of one position included.

    Raises ValueError as `prefill_cost`.
    """
    decoder = _decoder(config)
    positions = _positions(decoder, vision_tokens, text_tokens)
    return (
        sum(count * decoder.token + count**2 * decoder.pair for count in positions) + decoder.head
    )


def step_macs(config: Any, entries: Sequence[int], rows: int) -> int:
    """Count the LLM's MACs for `rows` positions behind `entries` of each layer's cache.

    Logits of the last position are included.

    Raises ValueError as `prefill_cost`.
    """
    decoder = _decoder(config)
    positions = _positions(decoder, entries, rows)
    windows = zip(positions, decoder.windows, strict=True)
    return (
        decoder.layers * rows * decoder.token
        + rows * sum(min(count, window) for count, window in windows) * decoder.pair
        + decoder.head
    )


def layer_average(tokens_per_layer: Sequence[int]) -> float:
    """Average the tokens that a decoder layer sees."""
    return fmean(tokens_per_layer)


def kv_entries(config: Any, vision_tokens: int | Sequence[int], text_tokens: int) -> int:
    """Count the cache's entries after the prefill, over all layers and key groups.

    Layers with a sliding window hold one less than that, since the next token is in it. Raises
    ValueError as `prefill_cost`.
    """
    decoder = _decoder(config)
    positions = _positions(decoder, vision_tokens, text_tokens)
    return sum(
        min(count, window - 1) for count, window in zip(positions, decoder.windows, strict=True)
    )


def kv_bytes(config: Any, entries: int, bytes_per_number: int = 2) -> int:
    """Convert `kv_entries` to bytes.

    Raises ValueError for a decoder that is not covered.
    """
    return entries * _decoder(config).numbers * bytes_per_number


@dataclass(frozen=True)
class _Decoder:
    """A Llama-type decoder: grouped queries, gated MLP. All but `head` per layer."""

    layers: int
    token: int  # MACs of one position without its attention
    pair: int  # MACs of both products of attention for one pair of positions
    head: int  # MACs of one position's logits, whether or not the head is tied to the embeddings
    numbers: int  # that one position leaves in the cache
    windows: Sequence[int]  # how many positions a position sees, itself included


_DECODERS = (
    "llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "qwen2_vl_text",
    "qwen2_5_vl_text", "qwen3_vl_text",
)  # fmt: skip
_UNBOUNDED = sys.maxsize


def _decoder(config: Any) -> _Decoder:
    text = config.get_text_config()
    kind = type(text).model_type
    if kind not in _DECODERS:
        raise ValueError(
            f"cost: the decoder {kind!r} is not covered; covered are {', '.join(_DECODERS)}"
        )
    width, heads, layers = text.hidden_size, text.num_attention_heads, text.num_hidden_layers
    size = getattr(text, "head_dim", None) or width // heads
    groups = text.num_key_value_heads
    window = getattr(text, "sliding_window", None) or _UNBOUNDED
    # Mistral's window, if any, is in all layers.
    attentions = getattr(text, "layer_types", None) or ["sliding_attention"] * layers
    return _Decoder(
        layers=layers,
        token=width * size * (2 * heads + 2 * groups) + 3 * width * text.intermediate_size,
        pair=2 * heads * size,
        head=width * text.vocab_size,
        numbers=2 * groups * size,
        windows=[
            window if attention == "sliding_attention" else _UNBOUNDED for attention in attentions
        ],
    )


def _positions(
    decoder: _Decoder, vision_tokens: int | Sequence[int], text_tokens: int
) -> list[int]:
    counts = [vision_tokens] * decoder.layers if isinstance(vision_tokens, int) else vision_tokens
    if len(counts) != decoder.layers:
        raise ValueError(
            f"vision_tokens: {len(counts)} counts for {decoder.layers} decoder layers; give one "
            "for each, or one for all"
        )
    return [count + text_tokens for count in counts]


def flop_counter() -> FlopCounterMode:
    """Make torch's FLOP counter with a formula for the CPU's fused attention."""

    def attention(
        query: Any, key: Any, value: Any, *args: Any, out_shape: Any = None, **kwargs: Any
    ) -> int:
        return sdpa_flop_count(query, key, value)

    fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    return FlopCounterMode(display=False, custom_mapping={fused: attention})
