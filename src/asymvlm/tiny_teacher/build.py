"""The tiny teacher's architecture and the initialisation that lets it learn to read quickly.

A ViT with the default initialisation reads only locally for a long time. Here its position table is
a 2-D sin-cos table and every head starts by looking to one place relative to its own (itself, its
neighbours, its row, its column), as in ConViT (arXiv 2103.10697) but inside the standard CLIP
parameters.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    LlavaConfig,
    LlavaForConditionalGeneration,
)

from ..documents.world.canvas import PAGE_SIZE
from .tokens import PATCH_SIZE

# Where the heads of each layer start to look: (rows down, columns right), or anywhere in the row or
# the column. Low layers put characters together, high ones find the name that a number belongs to:
# left of it, above it, or at the end of its row or column.
_ROW, _COLUMN = "row", "column"
_LOOKS: tuple[tuple[tuple[float, float] | str, ...], ...] = (
    ((0, -1), (0, 1), (0, -2), (0, 2), _ROW),
    ((0, -1), (0, 1), (0, -2), (0, 2), (-1, 0)),
    ((0, -2), (0, -3), (-1, 0), _ROW, _COLUMN),
    ((0, -1), (0, -4), (-2, 0), _ROW, _COLUMN),
)
_PLACE = 48  # channels of the position code
_GAINS = (
    1.0,
    1.2,
    2.0,
    2.5,
    # How firmly the heads of each layer start to look there; the stream grows, so high layers need
    # more.
)
# The LLM's first layer, likewise: words back, and with how many of the fastest rotations.
_TEXT_LOOKS, _TEXT_RATES, _TEXT_GAIN = (1, 2, 3, 4), 3, 0.7
_TEXT_COPY = 0.3
# The channel that is the same for every word; the others together have a length of about 1.
_SAME = 0.5


def llava_config(tokenizer: Any, width: int = 160, layers: int = 4, heads: int = 5) -> LlavaConfig:
    """A LLaVA of about 2.9 M parameters with 256 vision tokens."""
    vision = dict(  # noqa: C408
        model_type="clip_vision_model", hidden_size=width, intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads, image_size=PAGE_SIZE, patch_size=PATCH_SIZE,
        projection_dim=width,
    )  # fmt: skip
    text = dict(  # noqa: C408
        model_type="llama", hidden_size=width, intermediate_size=3 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=heads, vocab_size=len(tokenizer),
        max_position_embeddings=2048,
        tie_word_embeddings=True, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    return LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=tokenizer.image_token_id,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default", image_seq_length=(PAGE_SIZE // PATCH_SIZE) ** 2,
        tie_word_embeddings=True,
    )  # fmt: skip


def build_teacher(tokenizer: Any) -> LlavaForConditionalGeneration:
    """A fresh teacher, initialised as described above. Uses torch's global generator."""
    model = LlavaForConditionalGeneration(llava_config(tokenizer))
    _init_linears(model)
    _init_tower(model.model.vision_tower)
    width = model.config.text_config.hidden_size
    embeddings: Any = model.get_input_embeddings()
    nn.init.normal_(embeddings.weight, std=width**-0.5)
    _init_text_heads(model.model.language_model)
    model.generation_config.update(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        max_new_tokens=8,
    )  # fmt: skip
    return model


def build_text_side(tokenizer: Any, width: int = 160) -> CLIPTextModelWithProjection:
    """The text encoder that the tower's CLS is trained against, as CLIP trains it."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=5, max_position_embeddings=64, projection_dim=width,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    return CLIPTextModelWithProjection(config)


def _init_linears(model: LlavaForConditionalGeneration) -> None:
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and "lm_head" not in name:
            gain = 0.3 if name.endswith(("o_proj", "down_proj", "out_proj", "fc2")) else 1.0
            gain = 1.0 if "vision_tower" in name and name.endswith("out_proj") else gain
            gain = 1.4 if "multi_modal_projector" in name else gain
            nn.init.normal_(module.weight, std=gain / math.sqrt(module.in_features))
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _init_text_heads(llm: Any) -> None:
    """Let the first heads of the first layer start by reading one to four words back.

    One channel is the same for every word; queries and keys take mostly that at first, turned so
    that rotary embedding brings them together at that distance. What such a head brings is the word
    as it is, in the head's own share of the channels.
    """
    attention = llm.layers[0].self_attn
    query, key, size = attention.q_proj.weight, attention.k_proj.weight, attention.head_dim
    rates = llm.rotary_emb.inv_freq[:_TEXT_RATES]  # radians per word
    with torch.no_grad():
        llm.embed_tokens.weight[:, 0] = _SAME
        for head, back in enumerate(_TEXT_LOOKS):
            rows = slice(head * size, (head + 1) * size)
            query[rows] *= 0.3
            key[rows] *= 0.3
            nn.init.orthogonal_(attention.v_proj.weight[rows])
            attention.o_proj.weight[:, rows] = _TEXT_COPY * attention.v_proj.weight[rows].T
            for pair, rate in enumerate(rates.tolist()):
                # What rotary embedding turns together.
                first, second = head * size + pair, head * size + pair + size // 2
                key[first, 0] += _TEXT_GAIN
                query[first, 0] += _TEXT_GAIN * math.cos(rate * back)
                query[second, 0] -= _TEXT_GAIN * math.sin(rate * back)


def _rates(count: int) -> Tensor:
    """Angular frequencies of the position code, in radians per patch: 1.57 down to about 0.1."""
    return (math.pi / 2) * (1.0 / 16) ** (torch.arange(count) / count)


def _sincos(rows: int, rates: Tensor) -> Tensor:
    """[rows * rows, 4 F]: sin y, cos y, sin x, cos x."""
    angle = torch.arange(rows).float()[:, None] * rates[None, :]
    y, x = angle.repeat_interleave(rows, 0), angle.repeat(rows, 1)
    return torch.cat([y.sin(), y.cos(), x.sin(), x.cos()], dim=1)


def _cosine_filters(count: int, size: int) -> Tensor:
    """[count, size, size].

    The lowest 2-D cosine filters without the constant one, so that paper reads as zero.
    """
    place = (torch.arange(size) + 0.5) * math.pi / size
    waves = torch.stack([torch.cos(order * place) for order in range(size)])
    waves = waves / waves.norm(dim=1, keepdim=True)
    orders = sorted(
        ((y, x) for y in range(size) for x in range(size)), key=lambda pair: (sum(pair), pair)
    )
    return torch.stack([waves[y, :, None] * waves[x, None, :] for y, x in orders[1 : count + 1]])


def _init_tower(tower: Any) -> None:
    """The last _PLACE channels start with the position, the others with what is on the patch."""
    embeddings = tower.embeddings
    rates = _rates(_PLACE // 4)
    with torch.no_grad():
        table = embeddings.position_embedding.weight
        table.zero_()
        table[1:, -_PLACE:] = 1.5 * _sincos(PAGE_SIZE // PATCH_SIZE, rates)  # row 0 is CLS
        filters = embeddings.patch_embedding.weight  # [width, 3, size, size]
        filters.normal_(std=0.02)
        content = filters.shape[0] - _PLACE
        filters[:content] += _cosine_filters(content, PATCH_SIZE)[:, None] / 3
        filters -= filters.mean((2, 3), keepdim=True)
        for number, layer in enumerate(tower.encoder.layers):
            _init_heads(
                layer.self_attn, _LOOKS[number % len(_LOOKS)], _GAINS[number % len(_GAINS)], rates
            )


def _init_heads(
    attention: Any, looks: tuple[tuple[float, float] | str, ...], gain: float, rates: Tensor
) -> None:
    """Queries ask for the position code of the place where a head starts to look.

    Keys show their own.
    """
    size = attention.head_dim
    per_axis = size // 4  # frequencies that a head sees of each axis
    picks = torch.linspace(0, len(rates) - 1, per_axis).round().long().tolist()
    start = attention.q_proj.weight.shape[1] - _PLACE
    query, key = attention.q_proj.weight, attention.k_proj.weight
    query.mul_(0.3)
    key.mul_(0.3)
    for head in range(attention.num_heads):
        pattern = looks[head % len(looks)]
        # Offsets down and right; None where a head does not care for the row, or the column.
        on_axis = {_ROW: (0.0, None), _COLUMN: (None, 0.0)}
        offsets = on_axis[pattern] if isinstance(pattern, str) else pattern
        for axis, offset in enumerate(offsets):
            if offset is None:
                continue
            for order, pick in enumerate(picks):
                sin = start + 2 * axis * len(rates) + pick
                cos = sin + len(rates)
                row = head * size + axis * 2 * per_axis + 2 * order
                turn = float(rates[pick]) * offset
                key[row, sin] += gain
                key[row + 1, cos] += gain
                # sin(a + t) = sin a cos t + cos a sin t, and likewise for cos
                query[row, sin] += gain * math.cos(turn)
                query[row, cos] += gain * math.sin(turn)
                query[row + 1, cos] += gain * math.cos(turn)
                query[row + 1, sin] -= gain * math.sin(turn)
