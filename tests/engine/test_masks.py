"""Padding on either side, and columns that a mask hides."""

from __future__ import annotations

import pytest
import torch
from support import families
from support.eviction_runs import family
from support.families import ByCell
from support.family_cases import masked
from support.inside_llm import Inside

import asymvlm
from asymvlm.backbone import backbone_of

STEPS = {
    "max_new_tokens": 6,
    "do_sample": False,
    "pad_token_id": families.PAD,
    "eos_token_id": None,
}
METHODS = [(ByCell(), 0.5), (Inside(), 0.4)]
both = pytest.mark.parametrize(("method", "keep"), METHODS, ids=["before", "inside"])


@pytest.fixture(scope="module")
def one():
    row = family("Llava")
    model = row.build()
    return model, families.batch(model, row, (1,), (7,))


def right_padded(inputs):
    """The same prompts with their padding behind them."""
    order = inputs["attention_mask"].argsort(dim=1, descending=True, stable=True)
    shape = inputs["input_ids"].shape
    return {
        name: value.gather(1, order)
        if isinstance(value, torch.Tensor) and value.shape == shape
        else value
        for name, value in inputs.items()
    }


@both
@pytest.mark.parametrize("name", ["Llava", "Qwen2_5_VL", "SmolVLM"])
@torch.no_grad()
def test_right_padding_keeps_its_columns(name, method, keep):
    row = family(name)
    model = row.build()
    y = right_padded(families.batch(model, row))
    wanted = {"output_hidden_states": True}
    dense = model(**y, **wanted)
    with asymvlm.prune(model, method, keep=1.0):
        whole = model(**y, **wanted)
    assert torch.equal(whole.logits, dense.logits)
    assert all(map(torch.equal, whole.hidden_states, dense.hidden_states))
    with asymvlm.prune(model, method, keep=keep) as report:
        pruned = model(**y)
    assert sum(report.calls[0].after) < sum(report.calls[0].before)
    if isinstance(method, Inside):
        return  # what its layers miss: see tests/pruning/test_inside_llm.py
    reference = masked(model, y, report.calls[0].kept, generating=False)
    expected = model(**reference).logits
    stays = reference["attention_mask"].bool()
    torch.testing.assert_close(pruned.logits[stays], expected[stays], atol=1e-5, rtol=0)
    assert pruned.logits.shape == expected.shape


@torch.no_grad()
def test_right_padding_and_steps_behind_it():
    row = family("Llava")
    model = row.build()
    y = right_padded(families.batch(model, row))
    step = {"input_ids": torch.tensor([[21], [52]])}
    mask = torch.nn.functional.pad(y["attention_mask"], (0, 1), value=1)
    with asymvlm.prune(model, ByCell(), keep="auto") as report:
        cache = model(**y).past_key_values
        pruned = model(**step, attention_mask=mask, past_key_values=cache).logits
    reference = masked(model, y, report.calls[0].kept, generating=False)
    cache = model(**reference).past_key_values
    hidden = torch.nn.functional.pad(reference["attention_mask"], (0, 1), value=1)
    dense = model(**step, attention_mask=hidden, past_key_values=cache).logits
    torch.testing.assert_close(pruned, dense, atol=1e-5, rtol=0)


@both
@pytest.mark.parametrize("name", ["Llava", "Qwen2_5_VL"])
@torch.no_grad()
def test_a_mask_that_is_left_out_is_inferred_from_padding(name, method, keep):
    row = family(name)
    model = row.build()
    inputs = families.batch(model, row)
    assert not inputs["attention_mask"].all()
    with asymvlm.prune(model, method, keep=keep) as report:
        expected = model.generate(**inputs, **STEPS)
        unmasked = {key: value for key, value in inputs.items() if key != "attention_mask"}
        assert torch.equal(model.generate(**unmasked, **STEPS), expected)
    assert all(map(torch.equal, report.calls[0].kept, report.calls[1].kept))


@pytest.mark.parametrize("name", ["Llava", "Qwen2_5_VL", "Gemma3"])
@torch.no_grad()
def test_a_row_that_keeps_all_beside_one_that_does_not(name):
    """The longest row loses nothing: as many columns as before, and padding within the other."""
    row = family(name)
    model = row.build()
    x = families.batch(model, row, (0, 1), (40, 4))
    alone = families.batch(model, row, (1,), (4,))
    alone["input_ids"] = x["input_ids"][1:, x["attention_mask"][1].bool()]
    alone["attention_mask"] = torch.ones_like(alone["input_ids"])
    for types in {"token_type_ids", "mm_token_type_ids"} & x.keys():
        alone[types] = x[types][1:, x["attention_mask"][1].bool()]
    pictures = {key: x[key] for key in x if key.startswith(("pixel", "image"))}
    with asymvlm.prune(model, ByCell(), keep=0.25):
        both = model.generate(**x, **STEPS, output_logits=True, return_dict_in_generate=True)
        one = model.generate(
            **{**alone, **pictures}, **STEPS, output_logits=True, return_dict_in_generate=True
        )
    for together, single in zip(both.logits, one.logits, strict=True):
        torch.testing.assert_close(together[1:], single, atol=2e-4, rtol=0)


@torch.no_grad()
def test_columns_that_a_mask_hides_stay_hidden(one):
    """Text hidden within the prompt, from its first call or from a later step on."""
    model, x = one
    vision = backbone_of(model).layout(x).vision[0]
    text = (~vision).nonzero().squeeze(-1)
    hidden = x["attention_mask"].clone()
    hidden[0, text[-3]] = 0
    step = torch.tensor([[21]])
    for first in (x["attention_mask"], hidden):
        call = {**x, "attention_mask": first}
        with asymvlm.prune(model, ByCell(), keep=0.5) as report:
            cache = model(**call, use_cache=True).past_key_values
            mask = torch.nn.functional.pad(hidden, (0, 1), value=1)
            made = model(input_ids=step, past_key_values=cache, attention_mask=mask).logits
        dense = masked(model, call, report.calls[0].kept, generating=False)
        cache = model(**dense, use_cache=True).past_key_values
        mask = torch.nn.functional.pad(dense["attention_mask"] * hidden, (0, 1), value=1)
        wanted = model(input_ids=step, past_key_values=cache, attention_mask=mask).logits
        torch.testing.assert_close(made, wanted, atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_mask_of_another_form_at_a_step_is_refused(one):
    model, x = one
    with asymvlm.prune(model, ByCell(), keep=0.5):
        cache = model(**x, use_cache=True).past_key_values
        mask = torch.ones(1, 1, 1, x["input_ids"].shape[1] + 1, dtype=torch.bool)
        with pytest.raises(ValueError, match=r"^attention_mask: "):
            model(input_ids=torch.tensor([[21]]), past_key_values=cache, attention_mask=mask)
