"""Hooks, wrappers and copies of the caller's beside ours."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from support import families
from support.eviction_runs import BUDGET, family, rule
from support.families import ByCell
from support.inside_llm import Inside
from transformers import GenerationMixin

import asymvlm
from asymvlm.engine import ModelHooks

STEPS = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": families.PAD}
METHODS = [(ByCell(), 0.5), (Inside(), 0.4)]
both = pytest.mark.parametrize(("method", "keep"), METHODS, ids=["before", "inside"])


@pytest.fixture
def one():
    row = family("Llava")
    model = row.build()
    return model, families.batch(model, row, (1,), (7,))


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


@both
@torch.no_grad()
def test_hooks_of_the_callers_may_change_what_passes(one, method, keep):
    """Arguments that another hook replaces after ours, and outputs that it replaces."""
    model, x = one

    def same_arguments(module, args, kwargs):
        return args, dict(kwargs)

    with asymvlm.prune(model, method, keep=keep):
        expected = model(**x, use_cache=True)
        with model.model.register_forward_pre_hook(same_arguments, with_kwargs=True):
            made = model(**x, use_cache=True)
        assert torch.equal(made.logits, expected.logits)
        assert made.past_key_values.get_seq_length() == x["input_ids"].shape[1]
        with model.model.register_forward_hook(lambda module, args, output: output.to_tuple()):
            assert model.model(**x)[0].shape[1] == x["input_ids"].shape[1]


@pytest.mark.filterwarnings("ignore:asymvlm.prune.* called 1 times alone")
@torch.no_grad()
def test_an_interrupted_pass_is_over(one):
    """Ctrl-C in a layer: what comes after is seen as if nothing had been."""
    model, x = one

    def interrupt(*_):
        raise KeyboardInterrupt

    with asymvlm.prune(model, ByCell(), keep=0.5) as report:
        for call in (lambda: model(**x), lambda: model.generate(**x, **STEPS)):
            with (
                model.model.language_model.layers[0].register_forward_pre_hook(interrupt),
                pytest.raises(KeyboardInterrupt),
            ):
                call()
        model.model.language_model(input_ids=x["input_ids"])
        assert report.unseen == 1


def _of_family(name):
    if name == "Idefics":
        row = families.CROSS_ATTENTION[0]
        return row.build(), families.cross_batch(row, (1,), (7,))
    row = family(name)
    model = row.build()
    return model, families.batch(model, row, (1,), (7,))


@both
@torch.no_grad()
def test_a_wrapper_put_on_meanwhile_stays(one, method, keep):
    model, x = one
    expected = model.generate(**x, **STEPS)
    with asymvlm.prune(model, method, keep=keep):
        ours = model.generate
        model.generate = lambda *args, **kwargs: ours(*args, **kwargs)
        theirs = model.generate
        model.generate(**x, **STEPS)
    assert model.generate is theirs
    assert torch.equal(model.generate(**x, **STEPS), expected), "ours passes calls on"


@torch.no_grad()
def test_hooks_of_a_closed_context_pass_everything(one):
    model, x = one
    expected = model.generate(**x, **STEPS)
    with asymvlm.prune(model, ByCell(), keep=0.5):
        generate = model.generate
        generate(**x, **STEPS)
        assert isinstance(generate.around.__self__, ModelHooks)
    assert torch.equal(generate(**x, **STEPS), expected)
    assert not generate.around.__self__.stages


@pytest.mark.parametrize("context", ["before", "inside", "evict"])
@torch.no_grad()
def test_a_copy_of_the_model_is_not_pruned(one, context):
    """It has a `generate` of its own where the model had one, and attends as the model did."""
    model, x = one
    expected = model.generate(**x, **STEPS)
    own = model.generate = lambda *args, **kwargs: type(model).generate(model, *args, **kwargs)
    opened = (
        asymvlm.evict(model, rule(), BUDGET)
        if context == "evict"
        else asymvlm.prune(model, *dict(zip(("before", "inside"), METHODS, strict=True))[context])
    )
    with opened as report:
        copied = copy.deepcopy(model)
        assert copied.generate is own
        del copied.generate
        assert torch.equal(copied.generate(**x, **STEPS), expected) and not report.calls
        model.generate(**x, **STEPS)
    assert len(report.calls) == 1
    attends_by = {part.config._attn_implementation for part in copied.modules() if _has_own(part)}
    assert attends_by == {"sdpa"}


def _has_own(part):
    return hasattr(part, "config") and hasattr(part.config, "_attn_implementation")


@pytest.mark.filterwarnings("ignore:asymvlm")
@both
def test_a_pickle_of_an_open_model_is_refused(one, method, keep):
    model, _ = one
    with (
        asymvlm.prune(model, method, keep=keep),
        pytest.raises(ValueError, match=r"^model: .* save model\.state_dict\(\)$"),
    ):
        pickle.dumps(model)


@both
@torch.no_grad()
def test_a_generate_of_ones_own(one, method, keep):
    """By position, by keyword, and one that does not take what pruning hands along."""
    model, x = one
    with asymvlm.prune(model, method, keep=keep):
        expected = model.generate(**x, **STEPS)
    model.generate = lambda *args, **kwargs: type(model).generate(model, *args, **kwargs)
    rest = {key: item for key, item in x.items() if key != "input_ids"}
    with asymvlm.prune(model, method, keep=keep) as report:
        assert torch.equal(model.generate(x["input_ids"], **rest, **STEPS), expected)
    assert len(report.calls) == 1
    model.generate = lambda input_ids, pixel_values: None
    narrow = {key: x[key] for key in ("input_ids", "pixel_values")}
    with (
        asymvlm.prune(model, method, keep=keep),
        pytest.raises(ValueError, match=r"^generate: .* takes no .*mm_encoder_outputs"),
    ):
        model.generate(**narrow)


@pytest.mark.parametrize("name", ["Llava", "Blip2", "InstructBlip", "Idefics"])
@pytest.mark.parametrize("function", [None, GenerationMixin.generate])
@torch.no_grad()
def test_generate_called_on_the_class_is_refused(name, function):
    model, x = _of_family(name)
    generate = function or type(model).generate
    with (
        asymvlm.prune(model, ByCell(), keep=0.5),
        pytest.raises(ValueError, match=r"call model\.generate\(\.\.\.\)"),
    ):
        generate(model, **x, **STEPS)


@pytest.mark.parametrize("name", ["Blip2", "InstructBlip"])
@torch.no_grad()
def test_a_plain_call_from_within_generate_is_pruned(name):
    """Of a model that merges its pictures by itself."""
    model, x = _of_family(name)
    seen = []

    def nested(ids, scores):
        seen.append(model(**x).logits)
        return scores

    with asymvlm.prune(model, ByCell(), keep=0.5) as report:
        expected = model(**x).logits
        made = model.generate(**x, **STEPS)
        assert torch.equal(model.generate(**x, **STEPS, logits_processor=[nested]), made)
    assert len(report.calls) == 3 + len(seen) and report.text_only == 0
    assert all(torch.equal(logits, expected) for logits in seen)
