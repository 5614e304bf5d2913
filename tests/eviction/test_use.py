"""How eviction is asked for: calls it leaves alone, uses it refuses."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
import transformers as tf
from support import families
from support.eviction_runs import (
    BUDGET,
    MORE,
    OPEN,
    SLIDING,
    STEPS,
    close,
    dense,
    family,
    line_for,
    rule,
)

import asymvlm
from asymvlm.errors import DataError
from asymvlm.eviction.policies.linear import LinearEvictor
from asymvlm.eviction.policies.threshold import Threshold


@torch.no_grad()
def test_nothing_is_held_on_to(small):
    """A cache that the caller lets go is gone, though the context is open and its report says what
    was in there.
    """
    model, inputs = small
    with asymvlm.evict(model, rule(), BUDGET) as report:
        cache = weakref.ref(
            model.generate(**inputs, **STEPS, return_dict_in_generate=True).past_key_values
        )
        gc.collect()
        assert cache() is None
    assert report.calls[0].held == [BUDGET, BUDGET]


@torch.no_grad()
def test_text_alone_and_gradients(small):
    """A prompt without pictures evicts as well.

    A call without a cache, or with gradients, is as it always is.
    """
    model, inputs = small
    words = {"input_ids": inputs["input_ids"][:1, -20:], "attention_mask": torch.ones(1, 20).long()}
    with asymvlm.evict(model, rule(), BUDGET) as report:
        out = model.generate(**words, **STEPS, **OPEN)
        assert torch.equal(model(**inputs, use_cache=False).logits, model(**inputs).logits)
        with torch.enable_grad():
            model(**inputs, labels=inputs["input_ids"]).loss.backward()
    assert [call.held for call in report.calls] == [[BUDGET], [BUDGET, 9], [BUDGET, 9]]
    assert report.calls[0].seen == [20 + 23]
    close(
        torch.stack(out.logits, 1),
        dense(model, words, out.sequences[:, -24:], report.calls[0].evicted),
    )
    assert all(parameter.grad is not None for parameter in model.model.language_model.parameters())
    model.zero_grad()


@torch.no_grad()
def test_the_policy_may_be_left_out_or_be_a_file(small, tmp_path):
    model, inputs = small
    file = line_for(model, tmp_path / "line.safetensors")

    def evicted(policy):
        with asymvlm.evict(model, policy, 24) as report:
            model.generate(**inputs, **STEPS)
        return report.calls[0].evicted

    fixed, learned = evicted(None), evicted(file)
    assert fixed == evicted(Threshold()) and learned == evicted(LinearEvictor(file)) == evicted(
        str(file)
    )
    assert fixed != learned and any(map(len, fixed[0]))


def test_bad_use_is_refused(small):
    model, inputs = small
    width = inputs["input_ids"].shape[1]

    def refused(match, policy=None, error=ValueError, budget=BUDGET, **call):
        prompt = {
            "input_ids": inputs["input_ids"][:1, 19:],
            "attention_mask": torch.ones(1, 20).long(),
        }
        with (
            pytest.raises(error, match=match),
            asymvlm.evict(model, policy or rule(), budget, **call.pop("more", {})),
        ):
            model.generate(**prompt, max_new_tokens=2, **call)

    refused(
        "text_budget: 6 is less than the 7 that Threshold needs: 2 first and 4 newest", budget=6
    )
    for bad in (16.0, True, 0, "16", None):
        refused("text_budget: .* an int of at least 1", budget=bad)
    refused("vision_budget: 0.5 is not accepted", more={"vision_budget": 0.5})
    refused("policy: 'threshold' is neither an asymvlm.Evictor nor the file", policy="threshold")
    refused("policy: 7 is neither", policy=7)
    refused("policy: .*Threshold.* is neither an asymvlm.Evictor", policy=Threshold)
    refused("use_cache: False leaves no cache", use_cache=False)
    refused("cache_implementation: 'static' cannot lose entries", cache_implementation="static")
    refused(
        "cache_implementation: 'offloaded' cannot lose entries",
        generation_config=tf.GenerationConfig(cache_implementation="offloaded"),
    )
    static = tf.StaticCache(config=model.config, max_cache_len=64)
    refused("past_key_values: a StaticCache that is static or offloaded", past_key_values=static)
    refused("prompt_lookup_num_tokens: guessed tokens are taken back", prompt_lookup_num_tokens=3)
    refused("assistant_model: guessed tokens are taken back", assistant_model=model)
    with asymvlm.evict(model, rule(), BUDGET):
        refused("asymvlm.evict is open on it already")
        with torch.no_grad():
            out = model(**inputs)
            with pytest.raises(ValueError, match="input_ids and pixel_values"):
                model(inputs_embeds=torch.zeros(1, 3, families.D))
            with pytest.raises(ValueError, match="cannot be taken back"):
                out.past_key_values.crop(-1)
            step = {"input_ids": MORE[:, :1], "past_key_values": out.past_key_values}
            with pytest.raises(
                ValueError, match=rf"attention_mask: \(2, 5\) must be \(2, {width + 1}\)"
            ):
                model(**step, attention_mask=torch.ones(2, 5).long())
    mask = torch.nn.functional.pad(inputs["attention_mask"], (0, 1), value=1)
    with pytest.raises(ValueError, match=r"understood by asymvlm\.evict alone"):
        model(**step, attention_mask=mask)
    with (
        pytest.raises(ValueError, match="was scored by Threshold"),
        asymvlm.evict(model, rule("tova"), BUDGET),
    ):
        model(**step, attention_mask=mask)
    with torch.no_grad(), asymvlm.evict(model, rule(), BUDGET) as report:
        model(**step, attention_mask=mask)
    assert report.calls[0].held == [BUDGET, 10]
    plain = model(**inputs).past_key_values
    with (
        pytest.raises(ValueError, match=r"begun outside of asymvlm\.evict"),
        asymvlm.evict(model, rule(), BUDGET),
    ):
        model(**{**step, "past_key_values": plain}, attention_mask=mask)
    assert (
        "generate" not in vars(model) and model.config.text_config._attn_implementation == "sdpa"
    ), "everything is put back"


@pytest.mark.parametrize(
    "row", [*(family(name) for name in sorted(SLIDING)), *families.CROSS_ATTENTION], ids=str
)
def test_models_that_cannot_lose_entries_say_so(row):
    model = row.build()
    why = (
        "has no layer with full attention"
        if row.name in SLIDING
        else "reads pictures through cross-attention"
    )
    with (
        pytest.raises(DataError, match=f"{type(model).__name__} {why}"),
        asymvlm.evict(model, rule()),
    ):
        pass


def test_a_model_that_was_not_called_is_told_of(small):
    model, inputs = small
    with (
        pytest.warns(UserWarning, match="not called with a cache"),
        torch.no_grad(),
        asymvlm.evict(model, rule(), BUDGET),
    ):
        model(**inputs, use_cache=False)
