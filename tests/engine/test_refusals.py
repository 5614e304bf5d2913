"""What cannot be done right is refused by name, before any work."""

from __future__ import annotations

import copy

import peft
import pytest
import torch
from support import families
from support.eviction_runs import BUDGET, family, rule
from support.families import ByCell
from support.inside_llm import Inside

import asymvlm
from asymvlm.backbone import backbone_of

STEPS = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": families.PAD}
METHODS = [(ByCell(), 0.5), (Inside(), 0.4)]
both = pytest.mark.parametrize(("method", "keep"), METHODS, ids=["before", "inside"])


@pytest.fixture
def one():
    row = family("Llava")
    model = row.build()
    return model, families.batch(model, row, (1,), (7,))


@pytest.mark.parametrize("family_row", families.CROSS_ATTENTION, ids=str)
@torch.no_grad()
def test_states_for_cross_attention_are_refused(family_row):
    model = family_row.build()
    backbone, inputs = backbone_of(model), families.cross_batch(family_row)
    given = backbone.with_pictures(inputs, backbone.encode(inputs))
    with (
        asymvlm.prune(model, ByCell(), keep=0.5),
        pytest.raises(ValueError, match=f"^{backbone.states_argument}: .*give pixel_values"),
    ):
        model(**given)


def test_parts_and_wrappers_are_refused_in_one_line(one):
    model, _ = one
    cases = {
        "is a part of a model": model.model,
        "give the one inside, model.module": torch.nn.DataParallel(model),
        "give the one inside, model._orig_mod": torch.compile(model, backend="eager"),
        "is no model of transformers": torch.nn.Linear(2, 2),
    }
    for words, given in cases.items():
        for context in (
            lambda given: asymvlm.prune(given, ByCell(), keep=0.5),
            lambda given: asymvlm.evict(given, rule(), BUDGET),
        ):
            with pytest.raises(ValueError, match=f"^model: .*{words}"), context(given):
                pass
    model.compile(backend="eager")
    with (
        pytest.raises(ValueError, match=r"^model: .* is compiled"),
        asymvlm.prune(model, ByCell(), keep=0.5),
    ):
        pass


def test_layers_that_are_computed_again_are_refused(one):
    model, x = one
    model.train()
    for layer in model.model.language_model.layers:
        layer.gradient_checkpointing = True
    with (
        asymvlm.prune(model, Inside(), keep=0.4),
        pytest.raises(ValueError, match=r"gradient_checkpointing_disable\(\)"),
    ):
        model(**x, use_cache=False)


@torch.no_grad()
def test_attention_weights_that_nobody_computes_are_refused(one):
    model, x = one
    with (
        asymvlm.prune(model, Inside(), keep=0.4),
        pytest.raises(ValueError, match="output_attentions: the layers attend by SDPA"),
    ):
        model(**x, output_attentions=True)


@torch.no_grad()
def test_odd_masks_are_refused(one):
    model, x = one
    square = torch.ones(1, 1, x["input_ids"].shape[1], x["input_ids"].shape[1])
    with (
        asymvlm.prune(model, ByCell(), keep=0.5),
        pytest.raises(ValueError, match=r"attention_mask: .* must be"),
    ):
        model(**{**x, "attention_mask": square})


@torch.no_grad()
def test_pictures_cannot_follow_a_cache(one):
    model, x = one
    with asymvlm.prune(model, ByCell(), keep=0.5):
        first = model.generate(**x, **STEPS, return_dict_in_generate=True)
        again = {**x, "past_key_values": first.past_key_values}
        for call in (model, model.generate):
            with pytest.raises(ValueError, match=r"past_key_values: .* start anew"):
                call(**again)


@pytest.mark.parametrize("name", ["PixtralLlava", "Mistral3", "Qwen2VL", "InternVL", "SmolVLM"])
@torch.no_grad()
def test_downsample_refuses_towers_of_one_resolution(name):
    row = family(name)
    model = row.build()
    method = asymvlm.methods()["downsample"]()
    with (
        asymvlm.prune(model, method, keep=0.3),
        pytest.raises(ValueError, match=r"^downsample: "),
    ):
        model(**families.batch(model, row, (1,), (7,)))


@torch.no_grad()
def test_a_prompt_read_by_token_types_needs_them():
    row = family("PaliGemma")
    model = row.build()
    x = families.batch(model, row, (1,), (7,))
    types = x.pop("token_type_ids")
    with asymvlm.prune(model, ByCell(), keep=0.5):
        for call in (model, lambda **given: model.generate(**given, **STEPS)):
            with pytest.raises(ValueError, match=r"^token_type_ids: .* the processor returns"):
                call(**x)
            call(**x, token_type_ids=types)


@torch.no_grad()
def test_hidden_pictures_are_refused(one):
    """Their features would be laid on the next picture's columns."""
    model, _ = one
    x = families.batch(model, family("Llava"), (2,), (7,))
    x["attention_mask"] = x["attention_mask"].clone()
    first = (x["input_ids"] == families.IMAGE)[0].nonzero().squeeze(-1)
    x["attention_mask"][0, first[: len(first) // 2]] = 0
    with (
        asymvlm.prune(model, ByCell(), keep=0.5),
        pytest.raises(ValueError, match=r"^attention_mask: it shows .* placeholders"),
    ):
        model(**x)


@torch.no_grad()
def test_generate_needs_padding_on_the_left(one):
    model, _ = one
    x = families.batch(model, family("Llava"), (1, 1), (7, 4))
    x = {**x, "input_ids": x["input_ids"].flip(1), "attention_mask": x["attention_mask"].flip(1)}
    with (
        asymvlm.prune(model, ByCell(), keep=0.5),
        pytest.raises(ValueError, match=r"^attention_mask: generate .*on the left"),
    ):
        model.generate(**x, **STEPS)


@pytest.mark.filterwarnings("ignore:Position ids are not supported")  # peft's own
@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("PrefixTuningConfig", r"^past_key_values: .*prefix"),
        ("PromptTuningConfig", r"^inputs_embeds: .*prompt tuning"),
    ],
)
@torch.no_grad()
def test_prompts_that_peft_lengthens_are_refused(kind, says):
    row = family("Llava")
    model = row.build()
    x = families.batch(model, row, (1,), (7,))
    config = getattr(peft, kind)(task_type="CAUSAL_LM", num_virtual_tokens=3)
    tuned = peft.get_peft_model(model, config).eval()
    with asymvlm.prune(model, ByCell(), keep=0.5), pytest.raises(ValueError, match=says):
        tuned.generate(**x, **STEPS)


@torch.no_grad()
def test_attention_that_is_set_meanwhile_is_refused(one):
    row = family("Llava")
    model = row.build()
    x = families.batch(model, row, (1,), (7,))
    with asymvlm.prune(model, Inside(), keep=0.4):
        model.set_attn_implementation("eager")
        with pytest.raises(ValueError, match=r"^attn_implementation: 'eager' was set meanwhile"):
            model(**x)


def test_two_heads_on_one_llm_are_refused(one):
    model, x = one
    twin = type(model)(model.config)
    twin.model = model.model
    with asymvlm.prune(model, ByCell(), keep=0.5):
        model(**x)
        with (
            pytest.raises(ValueError, match=r"^model: .* around the same LLM"),
            asymvlm.prune(twin, ByCell(), keep=0.5),
        ):
            pass


def test_a_context_that_cannot_open_leaves_nothing(one, monkeypatch):
    model, x = one
    own = model.generate

    def fail(*_):
        raise RuntimeError("no such attention")

    monkeypatch.setattr(type(model), "set_attn_implementation", fail)
    with pytest.raises(RuntimeError, match="no such attention"), asymvlm.evict(model):
        pass
    monkeypatch.undo()
    assert model.generate == own and not model.model._forward_pre_hooks
    with asymvlm.prune(model, ByCell(), keep=0.5):
        model(**x)


@torch.no_grad()
def test_steps_of_ragged_pictures_need_their_mask():
    """Without one, rows of fewer vision tokens would attend to what fills them up."""
    row = next(one for one in families.CROSS_ATTENTION if str(one) == "Mllama")
    model, x = row.build(), families.cross_batch(row)
    step = torch.full((len(x["input_ids"]), 1), 21)
    mask = torch.nn.functional.pad(x["attention_mask"], (0, 1), value=1)
    with asymvlm.prune(model, ByCell(), keep="auto"):
        cache = model(**x, use_cache=True).past_key_values
        new = x["cross_attention_mask"][:, -1:]
        call = {"input_ids": step, "past_key_values": cache, "attention_mask": mask}
        with pytest.raises(ValueError, match=r"^cross_attention_mask: rows hold different"):
            model(**call)
        model(**call, cross_attention_mask=new)


@both
def test_labels_that_dropped_tokens_predict_are_refused(one, method, keep):
    """As collators make them that hide padding and pictures alone; keeping all needs no refusal."""
    model, x = one
    placeholders = backbone_of(model).layout(x).vision
    labels = x["input_ids"].masked_fill(placeholders, -100)
    expected = model(**x, labels=labels).loss
    with (
        asymvlm.prune(model, method, keep=keep) as report,
        pytest.raises(ValueError, match=r"^labels: 1 of them"),
    ):
        model(**x, labels=labels)
    assert not report.calls, "before any work"
    with asymvlm.prune(model, ByCell(), keep=1.0):
        assert torch.equal(model(**x, labels=labels).loss, expected)
    labels[:, 1:][placeholders[:, :-1]] = -100
    with asymvlm.prune(model, method, keep=keep):
        model(**x, labels=labels)


@pytest.mark.filterwarnings("ignore:asymvlm")
@torch.no_grad()
def test_a_step_outside_by_masked_layers_is_refused():
    """Eager attention is always given a mask, made for the first layer's entries."""
    row = family("Llava")
    model = row.build()
    model.set_attn_implementation("eager")
    x = families.batch(model, row, (1,), (7,))
    step = torch.tensor([[21]])
    with asymvlm.prune(model, Inside(), keep=0.4):
        cache = model(**x, use_cache=True).past_key_values
        model(input_ids=step, past_key_values=copy.deepcopy(cache))
    with pytest.raises(ValueError, match=r"^past_key_values: .* inside asymvlm\.prune$"):
        model(input_ids=step, past_key_values=cache)
