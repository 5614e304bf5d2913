"""Caches that hold fewer entries than their caller counts."""

from __future__ import annotations

import pytest
import torch
import transformers as tf
from support import families
from support.eviction_runs import family
from support.families import ByCell

import asymvlm
from asymvlm.engine import prompt_state

STEPS = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": families.PAD,
         "eos_token_id": None, "return_dict_in_generate": True}  # fmt: skip


@pytest.fixture(scope="module")
def filled():
    """A model, its prompt, and what `generate` gave with its cache."""
    row = family("Llava")
    model = row.build()
    inputs = families.batch(model, row)
    with torch.no_grad(), asymvlm.prune(model, ByCell(), keep=0.3) as report:
        made = model.generate(**inputs, **STEPS)
    return model, inputs, made, report


@torch.no_grad()
def test_the_cache_counts_as_its_caller_does(filled):
    _, inputs, made, report = filled
    cache, length = made.past_key_values, inputs["input_ids"].shape[1]
    held = cache.layers[0].keys.shape[-2]
    most = max(
        int(mask.sum()) - before + after
        for mask, before, after in zip(
            inputs["attention_mask"], report.calls[0].before, report.calls[0].after, strict=True
        )
    )
    assert held == most + 3, "entries of what is left, and of the tokens behind it"
    assert cache.get_seq_length() == length + 3 and isinstance(cache, tf.DynamicCache)
    assert prompt_state(cache).dropped() == length - most


@torch.no_grad()
def test_crop_stops_at_the_prompt(filled):
    model, inputs, _, _ = filled
    with asymvlm.prune(model, ByCell(), keep=0.3):
        cache = model.generate(**inputs, **STEPS).past_key_values
    length = inputs["input_ids"].shape[1]
    cache.crop(-2)
    assert cache.get_seq_length() == length + 1
    with pytest.raises(ValueError, match="past_key_values: 2 tokens cannot be taken back"):
        cache.crop(-2)
    assert cache.get_seq_length() == length + 1, "nothing is half done"
    cache.reset()
    assert type(cache) is tf.DynamicCache and prompt_state(cache) is None


@torch.no_grad()
def test_rows_that_are_chosen_anew_bring_their_columns(filled):
    model, inputs, _, _ = filled
    step = torch.tensor([[33], [44]])
    mask = torch.nn.functional.pad(inputs["attention_mask"], (0, 1), value=1)
    with asymvlm.prune(model, ByCell(), keep="auto"):
        logits = []
        for change in (None, [1, 0], "repeat"):
            cache = model(**inputs, use_cache=True).past_key_values
            rows = torch.arange(2)
            if change == "repeat":
                cache.batch_repeat_interleave(2)
                rows = rows.repeat_interleave(2)
            elif change:
                rows = torch.tensor(change)
                cache.reorder_cache(rows)
            out = model(
                input_ids=step[rows], attention_mask=mask[rows], past_key_values=cache
            ).logits
            logits.append((rows, out))
    plain = logits[0][1]
    for rows, out in logits[1:]:
        torch.testing.assert_close(out, plain[rows], atol=1e-5, rtol=0)
