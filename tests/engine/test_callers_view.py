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


@torch.no_grad()
def test_return_dict_of_none_is_the_models_own(one):
    model, x = one
    with asymvlm.prune(model, ByCell(), keep=0.5):
        made = model.model(**x, return_dict=None)
        assert torch.equal(made.last_hidden_state, model.model(**x).last_hidden_state)


@torch.no_grad()
def test_attention_weights_of_steps_are_in_the_callers_columns():
    """`generate` too: [B, H, 1, S + 1] at the first step, 0 where tokens were dropped."""
    row = family("Llava")
    model = row.build()
    model.set_attn_implementation("eager")
    x = families.batch(model, row, (1, 2), (7, 4))
    with asymvlm.prune(model, ByCell(), keep=0.5) as report:
        made = model.generate(
            **x, **STEPS, output_attentions=True, return_dict_in_generate=True
        ).attentions
    dense = masked(model, x, report.calls[0].kept, generating=True)
    expected = model.generate(
        **dense, **STEPS, output_attentions=True, return_dict_in_generate=True
    ).attentions
    for step, (ours, theirs) in enumerate(zip(made[1:], expected[1:], strict=True)):
        assert ours[0].shape[-1] == x["input_ids"].shape[1] + step + 1
        for layer, wanted in zip(ours, theirs, strict=True):
            torch.testing.assert_close(layer, wanted, atol=1e-5, rtol=0)


@both
@torch.no_grad()
def test_positions_of_one_row_serve_all(one, method, keep):
    model, _ = one
    x = families.batch(model, family("Llava"), (1, 1), (7, 7))
    positions = torch.arange(x["input_ids"].shape[1])[None]
    with asymvlm.prune(model, method, keep=keep):
        expected = model(**x, position_ids=positions.expand(2, -1)).logits
        assert torch.equal(model(**x, position_ids=positions).logits, expected)


@pytest.mark.parametrize("name", ["Qwen2VL", "Qwen2_5_VL", "Qwen3VL", "Glm4v"])
@torch.no_grad()
def test_prompts_that_do_not_say_where_pictures_are_count_columns(name):
    """Without `mm_token_type_ids` a plain call has one axis, padding included."""
    row = family(name)
    model = row.build().double()
    x = families.batch(model, row, (1, 2), (7, 4))
    x.pop("mm_token_type_ids")

    def called():
        try:
            return model(**x).logits
        except ValueError as error:  # most say so themselves
            return torch.tensor(list(str(error).encode()))

    expected = called()
    with asymvlm.prune(model, ByCell(), keep=1.0):
        assert torch.equal(called(), expected)


@pytest.mark.parametrize("row", families.CROSS_ATTENTION[:2], ids=str)
@pytest.mark.parametrize("keep", [1.0, 0.5])
@torch.no_grad()
def test_a_loop_by_hand_gives_encoded_pictures_back(row, keep):
    """Idefics wants them at every step, with the caller's mask of pictures."""
    model, x = row.build(), families.cross_batch(row)
    name = backbone_of(model).states_argument
    mask = torch.nn.functional.pad(x["attention_mask"], (0, 1), value=1)
    looks = x["image_attention_mask"][:, -1:]
    step = {"input_ids": torch.full((2, 1), 33), "attention_mask": mask}

    def loop(call):
        out = model(**call, use_cache=True)
        given = {name: out.image_hidden_states, "image_attention_mask": looks}
        return model(**step, **given, past_key_values=out.past_key_values).logits

    with asymvlm.prune(model, ByCell(), keep=keep):
        made = loop(x)
        alone = []
        for sample in range(2):
            step = {key: item[sample : sample + 1] for key, item in step.items()}
            looks = x["image_attention_mask"][sample : sample + 1, -1:]
            alone.append(loop({key: item[sample : sample + 1] for key, item in x.items()}))
            step = {"input_ids": torch.full((2, 1), 33), "attention_mask": mask}
    torch.testing.assert_close(made, torch.cat(alone), atol=1e-5, rtol=0)
    if keep == 1.0:
        looks = x["image_attention_mask"][:, -1:]
        torch.testing.assert_close(made, loop(x), atol=1e-5, rtol=0)
