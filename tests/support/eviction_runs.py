"""Evicted runs, and the dense model that does not see what has left, from the step on at which it
left.
"""

from __future__ import annotations

import tempfile

import torch
import transformers as tf
from safetensors.torch import save_file

from asymvlm.backbone import backbone_of
from asymvlm.backbone.families.q_former import QFormer
from asymvlm.eviction.policies.h2o import H2O
from asymvlm.eviction.policies.key_norm import KeyNorm
from asymvlm.eviction.policies.linear import LinearEvictor
from asymvlm.eviction.policies.random import Random
from asymvlm.eviction.policies.snap_kv import SnapKV
from asymvlm.eviction.policies.streaming_llm import StreamingLLM
from asymvlm.eviction.policies.threshold import Threshold
from asymvlm.eviction.policies.tova import TOVA

from . import families
from .families import PAD
from .layer_hooks import before_layers

BUDGET = 16  # the first prompt of a batch has more text than that, the second has less
PLACEHOLDERS = [
    5,
    6,
    7,
    8,
]  # what is made is read again as a prompt, where these would stand for pictures
STEPS = {
    "max_new_tokens": 24,
    "pad_token_id": PAD,
    "eos_token_id": None,
    "suppress_tokens": PLACEHOLDERS,
}
OPEN = {"return_dict_in_generate": True, "output_logits": True}
SLIDING = {
    "PixtralLlava",
    "Idefics2",
    "Mistral3",
}  # as configured there, every layer of their LLM has a window


def family(name):
    return next(one for one in families.IN_SEQUENCE if one.name == name)


def line_for(model, path):
    """The file of a learned rule that fits a model, by chance."""
    config = model.config.get_text_config()
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    draw = torch.Generator().manual_seed(3)
    line = {
        "weight": torch.randn(
            config.num_hidden_layers, config.num_key_value_heads * size, generator=draw
        ),
        "bias": torch.randn(config.num_hidden_layers, generator=draw),
    }
    save_file(line, path)
    return path


def learned(model):
    with tempfile.TemporaryDirectory() as folder:
        return LinearEvictor(line_for(model, f"{folder}/line.safetensors"), sinks=2, recent=4)


RULES = {
    "threshold": lambda model: Threshold(decay=0.5, sinks=2, recent=4),
    "streaming_llm": lambda model: StreamingLLM(sinks=2, recent=4),
    "h2o": lambda model: H2O(),
    "tova": lambda model: TOVA(),
    "snap_kv": lambda model: SnapKV(window=5),
    "key_norm": lambda model: KeyNorm(2, 4),
    "random": lambda model: Random(1, 2, 4),
    "learned_text": learned,
}
POLICIES = list(RULES)


def rule(name="threshold", model=None):
    """A policy with small settings."""
    return RULES[name](model)


def extended(model, inputs, tokens):
    """The prompt with tokens behind it, at the positions that `generate` gives them."""
    backbone = backbone_of(model)
    call = {**inputs, "position_ids": backbone.positions(inputs, generating=True)}
    return backbone.extended(call, tokens, torch.ones_like(tokens))


def blind(model, evicted, place, hidden=None, start=0):
    """The dense model whose layers miss each entry once it has left.

    `evicted` is the report's, `place` the position of each column, -1 on what is none; layers from
    `start` on do not see `hidden` at all.
    """

    def hide(number):
        last = torch.full_like(place, 10**6)  # position of the last row that sees a column
        for row, pairs in enumerate(evicted.get(number, [])):
            for position, newest in pairs:
                last[row, place[row] == position] = newest
        seen = place[:, :, None] <= last[:, None]
        if hidden is not None and number >= start:
            seen = seen & ~hidden[:, None]

        def hook(module, args, kwargs):
            mask = kwargs.get("attention_mask")
            causal = torch.ones(seen.shape[1:], dtype=torch.bool).tril()
            mask = causal if mask is None else mask
            eager = mask.dtype != torch.bool
            mask = (mask == 0 if eager else mask) & seen[:, None]
            mask = mask | ~mask.any(-1, keepdim=True)  # rows that see nothing are nobody's
            mask = torch.where(mask, 0.0, torch.finfo(torch.float32).min) if eager else mask
            return args, {**kwargs, "attention_mask": mask}

        return hook

    return before_layers(model, hide)


def places(mask, hidden=None):
    """The position of each column among the real ones of its row."""
    there = mask.bool() if hidden is None else mask.bool() & ~hidden
    return (there.cumsum(-1) - 1).masked_fill(~there, -1)


def dense(model, inputs, tokens, evicted, hidden=None, start=0, **more):
    """Logits before each of `tokens`, of one pass over everything without a cache."""
    whole = extended(model, inputs, tokens)
    if hidden is not None:
        hidden = torch.nn.functional.pad(hidden, (0, tokens.shape[1]))
    place = places(whole["attention_mask"], None if start else hidden)
    with blind(model, evicted, place, hidden, start):
        out = model(**whole, use_cache=False, **more)
    return out if more else out.logits[:, -tokens.shape[1] - 1 : -1]


def step_logits(model, inputs, tokens):
    """Logits before each of `tokens`, step by step on a cache, by plain calls of the model."""
    whole, width = extended(model, inputs, tokens), inputs["input_ids"].shape[1]
    prompt = {
        name: whole[name][..., :width] for name in ("input_ids", "attention_mask", "position_ids")
    }
    cache = tf.DynamicCache()
    # BLIP-2 itself cannot do without a picture.
    speaks = model.language_model if isinstance(backbone_of(model), QFormer) else model
    logits = [model(**{**inputs, **prompt}, past_key_values=cache).logits[:, -1]]
    for step in range(width, whole["input_ids"].shape[1] - 1):
        here = {name: whole[name][..., step : step + 1] for name in ("input_ids", "position_ids")}
        logits.append(
            speaks(
                **here, attention_mask=whole["attention_mask"][:, : step + 1], past_key_values=cache
            ).logits[:, -1]
        )
    return torch.stack(logits, dim=1)


def close(made, expected, atol=1e-5):
    torch.testing.assert_close(made, expected, atol=atol, rtol=0)


def turns(model, inputs, steps, more):
    """What two turns of `generate` on one cache gave.

    All new tokens with `more` between, logits of the second turn.
    """
    first = model.generate(**inputs, **steps, **OPEN)
    ids = torch.cat([first.sequences, more], dim=1)
    there = torch.nn.functional.pad(
        inputs["attention_mask"], (0, ids.shape[1] - inputs["attention_mask"].shape[1]), value=1
    )
    call = {"input_ids": ids, "attention_mask": there, "past_key_values": first.past_key_values}
    call |= families.more_types(model, inputs, ids.shape[1] - inputs["input_ids"].shape[1])
    second = model.generate(**call, **steps, **OPEN)
    return second.sequences[:, inputs["input_ids"].shape[1] :], torch.stack(second.logits, 1)


MORE = torch.tensor([[21, 33, 44, 35, 99], [52, 63, 74, 80, 81]])
