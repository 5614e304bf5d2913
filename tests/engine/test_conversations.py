"""State belongs to a cache: conversations, contexts and threads do not mix."""

from __future__ import annotations

import copy
import pickle
import threading
from contextlib import contextmanager

import pytest
import torch
import transformers as tf
from support import families
from support.eviction_runs import family, rule
from support.families import ByCell
from support.inside_llm import Inside

import asymvlm
from asymvlm.engine import prompt_state

STEPS = {
    "max_new_tokens": 6,
    "do_sample": False,
    "pad_token_id": families.PAD,
    "eos_token_id": None,
    "suppress_tokens": [5, 6, 7, 8],
}
OPEN = {**STEPS, "return_dict_in_generate": True}
NAMES = ("Llava", "Qwen2_5_VL", "InternVL", "Gemma3", "PaliGemma")
MORE = torch.tensor([[21, 33, 44], [52, 63, 74]])


@pytest.fixture(params=NAMES, scope="module")
def two(request):
    """A model and two prompts of it, of different lengths and numbers of pictures."""
    row = family(request.param)
    model = row.build()
    return model, families.batch(model, row), families.batch(model, row, (2, 1), (3, 9))


METHODS = [
    pytest.param(lambda: (ByCell(), "auto"), id="before"),
    pytest.param(lambda: (Inside(), 0.4), id="inside"),
]


@contextmanager
def opened(model, method):
    """`prune` with one of METHODS, where the model's decoder can be cut."""
    method, keep = method()
    if isinstance(method, Inside) and type(model).__name__.startswith("Gemma3"):
        pytest.skip("refused: see test_other_decoders_are_refused")
    with asymvlm.prune(model, method, keep=keep) as report:
        yield report


def turn(model, inputs, first):
    """The next call of a conversation whose first turn `generate` gave."""
    ids = torch.cat([first.sequences, MORE], 1)
    grow = ids.shape[1] - inputs["input_ids"].shape[1]
    call = {
        "input_ids": ids,
        "attention_mask": torch.nn.functional.pad(inputs["attention_mask"], (0, grow), value=1),
        "past_key_values": first.past_key_values,
    }
    return call | families.more_types(model, inputs, grow)


@pytest.mark.parametrize("method", METHODS)
@torch.no_grad()
def test_two_conversations_in_one_context(two, method):
    model, a, b = two
    with opened(model, method):
        alone = model.generate(**turn(model, a, model.generate(**a, **OPEN)), **STEPS)
    with opened(model, method) as report:
        first = model.generate(**a, **OPEN)
        model.generate(**b, **OPEN)
        mixed = model.generate(**turn(model, a, first), **STEPS)
    assert torch.equal(mixed, alone)
    assert len(report.calls) == 2 and report.continued == 1


@pytest.mark.parametrize("method", METHODS)
@torch.no_grad()
def test_a_further_turn_in_a_later_context(two, method):
    model, a, b = two
    with opened(model, method):
        alone = model.generate(**turn(model, a, model.generate(**a, **OPEN)), **STEPS)
    with opened(model, method):
        first = model.generate(**a, **OPEN)
    with opened(model, method):
        model.generate(**b, **STEPS)
    with opened(model, method):  # does not warn: it is used
        assert torch.equal(model.generate(**turn(model, a, first), **STEPS), alone)


@torch.no_grad()
def test_a_further_turn_outside_is_right_or_refused(two):
    """One prompt without padding needs nothing of the context; ragged rows are refused."""
    model, a, _ = two
    with asymvlm.prune(model, ByCell(), keep="auto"):
        first = model.generate(**a, **OPEN)
        call = turn(model, a, first)
        cache = copy.deepcopy(first.past_key_values)
        inside = model.generate(**{**call, "past_key_values": cache}, **STEPS)
    if not prompt_state(first.past_key_values).has_gaps:  # rows as long as each other
        assert torch.equal(model.generate(**call, **STEPS), inside)
        return
    with pytest.raises(ValueError, match=r"go on with it inside asymvlm\.prune"):
        model.generate(**call, **STEPS)


@torch.no_grad()
def test_one_prompt_goes_on_outside():
    row = family("Llava")
    model = row.build()
    x = families.batch(model, row, (1,), (7,))
    more = {"input_ids": MORE[:1]}
    with asymvlm.prune(model, ByCell(), keep=0.5):
        first = model.generate(**x, **OPEN)
        ids = torch.cat([first.sequences, more["input_ids"]], 1)
        kept = copy.deepcopy(first.past_key_values)
        inside = model.generate(input_ids=ids, past_key_values=kept, **STEPS)
    outside = model.generate(input_ids=ids, past_key_values=first.past_key_values, **STEPS)
    assert torch.equal(inside, outside)


@torch.no_grad()
def test_copies_of_a_cache_are_caches_of_their_own():
    row = family("Llava")
    model = row.build()
    inputs = families.batch(model, row)
    with asymvlm.prune(model, ByCell(), keep="auto"):
        first = model.generate(**inputs, **OPEN)
        call = turn(model, inputs, first)
        cache = first.past_key_values
        copies = [copy.deepcopy(cache), pickle.loads(pickle.dumps(cache))]
        expected = model.generate(**call, **STEPS)
        for cache in copies:
            made = model.generate(**{**call, "past_key_values": cache}, **STEPS)
            assert torch.equal(made, expected)


@pytest.mark.parametrize("method", METHODS)
@torch.no_grad()
def test_two_threads_in_one_context(method):
    row = family("Llava")
    model = row.build()
    prompts = [families.batch(model, row, (1, 1), (4 + n, 7)) for n in range(4)]
    with opened(model, method):
        expected = [model.generate(**one, **STEPS) for one in prompts]
    found, failed = {}, []

    def work(number):
        try:
            for _ in range(5):
                found.setdefault(number, []).append(model.generate(**prompts[number], **STEPS))
        except Exception as error:
            failed.append(error)

    with opened(model, method) as report:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failed and len(report.calls) == 20
    for number, made in found.items():
        assert all(torch.equal(one, expected[number]) for one in made)


@torch.no_grad()
def test_threads_with_contexts_of_their_own_are_refused():
    row = family("Llava")
    model = row.build()
    x = families.batch(model, row)
    messages = []

    def open_another():
        try:
            with asymvlm.prune(model, ByCell(), keep=0.5):
                pass
        except ValueError as error:
            messages.append(str(error))

    with asymvlm.prune(model, ByCell(), keep=0.5):
        model.generate(**x, **STEPS)
        thread = threading.Thread(target=open_another)
        thread.start()
        thread.join()
        assert messages == [
            "model: asymvlm.prune is open on it already, perhaps in another thread; open one at a "
            "time"
        ]
        with pytest.raises(ValueError, match="is open on it already"):
            asymvlm.prune(model, Inside(), keep=0.5).__enter__()
    assert "generate" not in vars(model)


CONTEXTS = {
    "all kept": lambda model: asymvlm.prune(model, ByCell(), keep=1.0),
    "pruned": lambda model: asymvlm.prune(model, ByCell(), keep=0.5),
    "evict": lambda model: asymvlm.evict(model, rule("streaming_llm"), 12),
}


@pytest.mark.parametrize("name", ["Qwen2VL", "Qwen2_5_VL", "Qwen3VL", "Glm4v"])
@pytest.mark.parametrize("context", CONTEXTS)
@torch.no_grad()
def test_each_conversation_has_positions_of_its_own(name, context):
    row = family(name)
    model = row.build()
    text = {"input_ids": torch.tensor([[1, 30, 41, 52]]), "attention_mask": torch.ones(1, 4).long()}
    prompts = [families.batch(model, row, (1,), (7,)), families.batch(model, row, (2, 1)), text]
    answer = torch.tensor([[21, 33, 44, 35]])

    def alone(prompt):
        """A loop by hand without any other beside it, on a model that has seen nothing."""
        model.base_model.rope_deltas = None
        cache, logits = model(**prompt, use_cache=True).past_key_values, []
        for token in answer.expand(len(prompt["input_ids"]), -1).split(1, dim=1):
            logits.append(model(input_ids=token, past_key_values=cache).logits)
        return torch.cat(logits, 1)

    with CONTEXTS[context](model):
        expected = [alone(prompt) for prompt in prompts]
        caches = [model(**prompt, use_cache=True).past_key_values for prompt in prompts]
        logits = [[] for _ in prompts]
        for token in answer.split(1, dim=1):
            for cache, prompt, made in zip(caches, prompts, logits, strict=True):
                step = token.expand(len(prompt["input_ids"]), -1)
                made.append(model(input_ids=step, past_key_values=cache).logits)
    for made, wanted in zip(logits, expected, strict=True):
        assert torch.equal(torch.cat(made, 1), wanted)


@pytest.mark.parametrize("context", CONTEXTS)
@torch.no_grad()
def test_a_call_from_within_generate_has_positions_of_its_own(context):
    """A logits processor that asks the same model something else."""
    row = family("Qwen2_5_VL")
    model = row.build()
    outer, inner = families.batch(model, row, (1,), (4,)), families.batch(model, row, (2,), (9,))

    def loop():
        cache = model(**inner, use_cache=True).past_key_values
        steps = [model(input_ids=torch.tensor([[t]]), past_key_values=cache) for t in (21, 33, 44)]
        return torch.cat([step.logits for step in steps], 1)

    found = []

    class Asks(tf.LogitsProcessor):
        def __call__(self, input_ids, scores):
            found.append(loop())
            return scores

    with CONTEXTS[context](model):
        wanted = loop()
        asks = tf.LogitsProcessorList([Asks()])
        model.generate(**outer, **{**STEPS, "max_new_tokens": 2}, logits_processor=asks)
    assert all(torch.equal(made, wanted) for made in found) and len(found) == 2


@torch.no_grad()
def test_a_step_that_is_refused_leaves_the_cache_refusing(two):
    model, a, _ = two
    with opened(model, METHODS[0].values[0]):
        cache = model.generate(**a, **OPEN).past_key_values
        with pytest.raises(ValueError, match=r"^attention_mask: "):
            model(
                input_ids=MORE[:, :1],
                past_key_values=cache,
                attention_mask=torch.ones(2, 3, dtype=torch.long),
            )
    if prompt_state(cache).has_gaps:
        with pytest.raises(ValueError, match=r"^past_key_values: this cache was pruned"):
            model(input_ids=MORE[:, :1], past_key_values=cache)


@torch.no_grad()
def test_a_whole_prompt_may_be_cut_back():
    row = family("Qwen2_5_VL")
    model = row.build()
    x = families.batch(model, row, (1,), (7,))
    again = x["input_ids"][:, -4:]
    with asymvlm.prune(model, ByCell(), keep=1.0):
        out = model(**x, use_cache=True)
        cache = out.past_key_values
        model(input_ids=torch.tensor([[60, 61]]), past_key_values=cache)
        cache.crop(-6)
        logits = model(input_ids=again, past_key_values=cache).logits
    torch.testing.assert_close(logits, out.logits[:, -4:], atol=1e-5, rtol=0)
