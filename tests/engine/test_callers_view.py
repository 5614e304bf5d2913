"""What the caller can see is in the coordinates of the prompt that they passed."""

from __future__ import annotations

import pytest
import torch
import transformers as tf
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
@pytest.mark.parametrize("name", ["Llava", "Qwen2_5_VL", "Qwen3VL", "PaliGemma", "Idefics2"])
@torch.no_grad()
def test_a_loop_by_hand_says_what_generate_says(name, method, keep):
    row = family(name)
    model = row.build()
    x = families.batch(model, row, (1,), (7,))
    if isinstance(method, Inside) and name == "Idefics2":
        pytest.skip("its layers have windows")
    with asymvlm.prune(model, method, keep=keep) as report:
        made = model.generate(**x, **STEPS)[0, x["input_ids"].shape[1] :]
        out = model(**x, use_cache=True)
        tokens = [int(out.logits[0, -1].argmax())]
        while len(tokens) < len(made):
            out = model(input_ids=torch.tensor([tokens[-1:]]), past_key_values=out.past_key_values)
            tokens.append(int(out.logits[0, -1].argmax()))
    assert tokens == made.tolist() and len(report.calls) == 2
    assert out.past_key_values.get_seq_length() == x["input_ids"].shape[1] + len(tokens) - 1


@both
@torch.no_grad()
def test_loops_by_hand_take_turns(method, keep):
    row = family("Qwen2_5_VL")
    model = row.build()
    prompts = [families.batch(model, row, (1,), (7,)), families.batch(model, row, (2,), (4,))]
    with asymvlm.prune(model, method, keep=keep):
        made = [model.generate(**x, **STEPS)[0, x["input_ids"].shape[1] :] for x in prompts]
        outs = [model(**x, use_cache=True) for x in prompts]
        tokens = [[int(out.logits[0, -1].argmax())] for out in outs]
        for _ in range(5):
            for number in (0, 1):
                step = torch.tensor([tokens[number][-1:]])
                outs[number] = model(input_ids=step, past_key_values=outs[number].past_key_values)
                tokens[number].append(int(outs[number].logits[0, -1].argmax()))
    assert tokens == [item.tolist() for item in made]


@both
@torch.no_grad()
def test_callbacks_see_the_callers_ids_and_length(one, method, keep):
    model, x = one
    length, seen = x["input_ids"].shape[1], []
    answer = [20, 30, 40, 50, 60, 70]

    class Looks(tf.LogitsProcessor):
        def __call__(self, input_ids, scores):
            seen.append(input_ids.clone())
            return scores

    class Stops(tf.StoppingCriteria):
        def __call__(self, input_ids, scores, **kwargs):
            seen.append(input_ids.clone())
            return torch.zeros(len(input_ids), dtype=torch.bool)

    class Streams:
        def __init__(self):
            self.got = []

        def put(self, value):
            self.got += value.flatten().tolist()

        def end(self):
            pass

    streamer = Streams()
    with asymvlm.prune(model, method, keep=keep) as report:
        made = model.generate(
            **x, **STEPS, streamer=streamer,
            prefix_allowed_tokens_fn=lambda _, ids: [answer[len(ids) - length]],
            logits_processor=tf.LogitsProcessorList([Looks()]),
            stopping_criteria=tf.StoppingCriteriaList([Stops()]),
        )  # fmt: skip
    assert sum(report.calls[0].after) < sum(report.calls[0].before)
    assert made[0, length:].tolist() == answer
    assert streamer.got == made[0].tolist()
    assert {len(ids[0]) for ids in seen} == set(range(length, length + 7))
    assert all(torch.equal(ids[:, :length], x["input_ids"]) for ids in seen)


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


@torch.no_grad()
def test_states_and_attention_weights_are_in_the_callers_columns():
    row = family("Llava")
    model = row.build()
    model.set_attn_implementation("eager")
    inputs = families.batch(model, row)
    wanted = {"output_hidden_states": True, "output_attentions": True}
    with asymvlm.prune(model, ByCell(), keep="auto") as report:
        pruned = model(**inputs, **wanted)
    reference = masked(model, inputs, report.calls[0].kept, generating=False)
    dense = model(**reference, **wanted)
    stays = reference["attention_mask"].bool()
    for made, expected in zip(pruned.hidden_states, dense.hidden_states, strict=True):
        torch.testing.assert_close(made[stays], expected[stays], atol=1e-5, rtol=0)
        assert not made[~stays].any()
    for made, expected in zip(pruned.attentions, dense.attentions, strict=True):
        for row_number, own in enumerate(stays):
            torch.testing.assert_close(
                made[row_number][:, own][:, :, own], expected[row_number][:, own][:, :, own],
                atol=1e-5, rtol=0,
            )  # fmt: skip


@torch.no_grad()
def test_logits_to_keep_names_the_callers_rows():
    row = family("Llava")
    model = row.build()
    inputs = families.batch(model, row)
    rows = torch.tensor([0, 3, inputs["input_ids"].shape[1] - 2])
    with asymvlm.prune(model, ByCell(), keep="auto"):
        whole = model(**inputs).logits
        torch.testing.assert_close(model(**inputs, logits_to_keep=rows).logits, whole[:, rows])
        tuples = model(**inputs, return_dict=False)
    torch.testing.assert_close(tuples[0], whole)


@both
@pytest.mark.parametrize("name", ["Llava", "Qwen2VL", "Qwen2_5_VL"])
@torch.no_grad()
def test_guessed_tokens_change_nothing(name, method, keep):
    row = family(name)
    model = row.build().requires_grad_(False)
    x = families.batch(model, row, (1,), (7,))
    # Words that were said before are guessed, some of them right.
    x["input_ids"][0, -3:] = x["input_ids"][0, -6:-3]
    steps = {**STEPS, "max_new_tokens": 12, "return_dict_in_generate": True}
    widths = []
    with asymvlm.prune(model, method, keep=keep) as report:
        plain = model.generate(**x, **steps)
        handle = model.model.register_forward_pre_hook(
            lambda _, args, kwargs: widths.append(kwargs["input_ids"].shape[1]), with_kwargs=True
        )
        guessed = model.generate(**x, **steps, prompt_lookup_num_tokens=3)
        handle.remove()
        length = plain.sequences.shape[1]
        assert torch.equal(guessed.sequences, plain.sequences)
        ids = torch.cat([plain.sequences, torch.tensor([[33, 44]])], 1)
        turns = [
            model.generate(input_ids=ids, past_key_values=made.past_key_values, **STEPS)
            for made in (plain, guessed)
        ]
    assert max(widths) > 1 and any(width > 1 for width in widths[1:]), "something is guessed"
    assert torch.equal(*turns) and guessed.past_key_values.get_seq_length() >= length
    assert sum(report.calls[1].after) < sum(report.calls[1].before)


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


@torch.no_grad()
def test_the_inner_model_gives_tuples(one):
    model, x = one
    with asymvlm.prune(model, ByCell(), keep=0.5):
        expected = model.model(**x, use_cache=True)
        made = model.model(**x, use_cache=True, return_dict=False)
        assert type(made) is tuple and torch.equal(made[0], expected[0])
        assert made[1].get_seq_length() == x["input_ids"].shape[1]


@torch.no_grad()
def test_the_inner_model_is_seen(one):
    model, x = one
    with asymvlm.prune(model, ByCell(), keep=0.5) as report:
        inner = model.model(**x).last_hidden_state
        outer = model(**x, output_hidden_states=True).hidden_states[-1]
    assert len(report.calls) == 2 and torch.equal(inner, outer)
    assert backbone_of(model).reader is model.model


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


@torch.no_grad()
def test_hooks_of_the_callers_see_the_callers_columns(one):
    """Whether they were put there before or after."""
    model, x = one
    seen = []

    def look(module, args, output):
        seen.append(output.last_hidden_state.shape[1])

    with model.model.register_forward_hook(look), asymvlm.prune(model, ByCell(), keep=0.5):
        model(**x)
        with model.model.register_forward_hook(look):
            model(**x)
    assert seen == [x["input_ids"].shape[1]] * 3


@torch.no_grad()
def test_return_dict_of_none_is_the_models_own(one):
    model, x = one
    with asymvlm.prune(model, ByCell(), keep=0.5):
        made = model.model(**x, return_dict=None)
        assert torch.equal(made.last_hidden_state, model.model(**x).last_hidden_state)
