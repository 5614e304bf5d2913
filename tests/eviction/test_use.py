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


@pytest.mark.parametrize(
    "says,given",
    [
        ("text_budget: 6 is less than the 7 that Threshold needs: 2 first and 4 newest", (None, 6)),
        *(
            ("text_budget: .* an int of at least 1", (None, bad))
            for bad in (16.0, True, 0, "16", None)
        ),
        ("policy: 'threshold' is neither an asymvlm.Evictor nor the file", ("threshold", BUDGET)),
        ("policy: 7 is neither", (7, BUDGET)),
        ("policy: .*Threshold.* is neither an asymvlm.Evictor", (Threshold, BUDGET)),
    ],
)
def test_bad_settings_are_refused(small, says, given):
    policy, budget = given
    with pytest.raises(ValueError, match=says), asymvlm.evict(small[0], policy or rule(), budget):
        pass


@pytest.mark.parametrize(
    "says,call",
    [
        ("use_cache: False leaves no cache", lambda model: {"use_cache": False}),
        (
            "cache_implementation: 'static' cannot lose entries",
            lambda model: {"cache_implementation": "static"},
        ),
        (
            "cache_implementation: 'offloaded' cannot lose entries",
            lambda model: {
                "generation_config": tf.GenerationConfig(cache_implementation="offloaded")
            },
        ),
        (
            "past_key_values: a StaticCache that is static or offloaded",
            lambda model: {
                "past_key_values": tf.StaticCache(config=model.config, max_cache_len=64)
            },
        ),
        (
            "prompt_lookup_num_tokens: guessed tokens are taken back",
            lambda model: {"prompt_lookup_num_tokens": 3},
        ),
        (
            "assistant_model: guessed tokens are taken back",
            lambda model: {"assistant_model": model},
        ),
    ],
)
def test_bad_use_is_refused(small, says, call):
    model, inputs = small
    prompt = {
        "input_ids": inputs["input_ids"][:1, 19:],
        "attention_mask": torch.ones(1, 20).long(),
    }
    with pytest.raises(ValueError, match=says), asymvlm.evict(model, rule(), BUDGET):
        model.generate(**prompt, max_new_tokens=2, **call(model))


@pytest.mark.parametrize(
    "says,arguments",
    [
        ("vision_budget: 0.5 is not accepted", {"vision_budget": 0.5}),
        ("asymvlm.evict is open on it already", {}),
    ],
)
def test_a_second_context_and_a_vision_budget_are_refused(small, says, arguments):
    model, _ = small
    with (
        pytest.raises(ValueError, match=says),
        asymvlm.evict(model, rule(), BUDGET, **arguments),
        asymvlm.evict(model, rule(), BUDGET),
    ):
        pass
    assert (
        "generate" not in vars(model) and model.config.text_config._attn_implementation == "sdpa"
    ), "everything is put back"


@torch.no_grad()
def test_calls_of_an_open_context_that_are_refused(small):
    model, inputs = small
    columns = inputs["input_ids"].shape[1] + 1
    with asymvlm.evict(model, rule(), BUDGET):
        cache = model(**inputs).past_key_values
        with pytest.raises(ValueError, match="input_ids and pixel_values"):
            model(inputs_embeds=torch.zeros(1, 3, families.D))
        with pytest.raises(ValueError, match="cannot be taken back"):
            cache.crop(-1)
        with pytest.raises(ValueError, match=rf"attention_mask: \(2, 5\) must be \(2, {columns}\)"):
            model(
                input_ids=MORE[:, :1],
                past_key_values=cache,
                attention_mask=torch.ones(2, 5).long(),
            )


@torch.no_grad()
def test_a_cache_goes_on_under_the_policy_that_began_it(small):
    model, inputs = small
    mask = torch.nn.functional.pad(inputs["attention_mask"], (0, 1), value=1)
    with asymvlm.evict(model, rule(), BUDGET):
        cache = model(**inputs).past_key_values
    step = {"input_ids": MORE[:, :1], "past_key_values": cache, "attention_mask": mask}
    with pytest.raises(ValueError, match=r"understood by asymvlm\.evict alone"):
        model(**step)
    with (
        pytest.raises(ValueError, match="was scored by Threshold"),
        asymvlm.evict(model, rule("tova"), BUDGET),
    ):
        model(**step)
    with asymvlm.evict(model, rule(), BUDGET) as report:
        model(**step)
    assert report.calls[0].held == [BUDGET, 10]
    plain = model(**inputs).past_key_values
    with (
        pytest.raises(ValueError, match=r"begun outside of asymvlm\.evict"),
        asymvlm.evict(model, rule(), BUDGET),
    ):
        model(**{**step, "past_key_values": plain})


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
