"""Eviction is exact.

It equals a dense model whose layers do not see what has left, from the step on at which it left.
"""

from __future__ import annotations

import copy
import dataclasses

import families
import pytest
import torch
import transformers as tf
from eviction_runs import (
    BUDGET,
    MORE,
    OPEN,
    PLACEHOLDERS,
    POLICIES,
    SLIDING,
    STEPS,
    close,
    dense,
    family,
    places,
    rule,
    turns,
)

import asymvlm
from asymvlm.backbone import backbone_of
from asymvlm.backbone.families.q_former import QFormer
from asymvlm.eviction.cache import EvictingLayer
from asymvlm.eviction.entries import Entries


def mistral3():
    """As Mistral publishes it: without a window."""

    def config():
        made = family("Mistral3").config()
        made.text_config.sliding_window = None
        return made

    return dataclasses.replace(family("Mistral3"), config=config)


@pytest.fixture(
    params=[one for one in families.IN_SEQUENCE if one.name not in SLIDING] + [mistral3()],
    ids=str,
    scope="module",
)
def case(request):
    """(model, its batch: one picture and 20 words, two pictures and 4 words.

    The batch for beams).
    """
    model = request.param.build()
    made = [
        families.batch(model, request.param, pictures, words=(20, 4))
        for pictures in ((1, 2), request.param.beams)
    ]
    return model, *made


@torch.no_grad()
def test_greedy_equals_dense_layers_that_miss_what_left(case):
    model, inputs, _ = case
    width = inputs["input_ids"].shape[1]
    with asymvlm.evict(model, rule(), BUDGET) as report:
        out = model.generate(**inputs, **STEPS, **OPEN)
    call = report.calls[0]
    made = out.sequences[:, -24:]
    assert out.sequences.shape[1] in (24, width + 24)
    vision = backbone_of(model).layout(inputs).vision
    # The last token made is never read.
    text = (inputs["attention_mask"].bool() & ~vision).sum(-1) + 23
    assert call.seen == text.tolist()
    assert call.held == [BUDGET, BUDGET]
    assert call.gone == [seen - BUDGET for seen in call.seen]
    assert call.peak == BUDGET + 1
    assert all(
        len(pairs) == gone
        for rows in call.evicted.values()
        for pairs, gone in zip(rows, call.gone, strict=True)
    )
    expected = dense(model, inputs, made, call.evicted)
    close(torch.stack(out.logits, 1), expected)
    expected[..., PLACEHOLDERS] = -torch.inf
    assert torch.equal(expected.argmax(-1), made)
    whole = dense(model, inputs, made, {})
    assert (whole - torch.stack(out.logits, 1))[:, 12:].abs().amax((1, 2)).min() > 1e-3, (
        "what left is missed"
    )


class Apart(tf.LogitsProcessor):
    """Beams that go their own ways and overtake each other.

    But for these, all beams of a tiny model share all but their last words.

    Twice they branch as they like, so that beams die and others double.
    """

    def __init__(self):
        self.step = -1

    def __call__(self, ids, scores):
        self.step += 1
        if self.step in (0, 9):
            return scores
        mark = (ids * torch.arange(1, ids.shape[1] + 1)).sum(-1, keepdim=True)
        return torch.full_like(scores, -1e6).scatter(
            1, 20 + mark % 97, torch.sin(mark * 1.7 + self.step) - 2
        )


def beams(model, inputs, policy):
    """(report, what three beams per sample gave: [B, 3, T], its logits.

    [B, 3, T, V]) of one evicted call of `generate`.
    """
    apart = tf.LogitsProcessorList([Apart()])
    with asymvlm.evict(model, policy, BUDGET) as report:
        out = model.generate(
            **inputs, **STEPS, **OPEN, num_beams=3, num_return_sequences=3, logits_processor=apart
        )
    index = out.beam_indices
    assert (index[:, 1:] != index[:, :-1]).any(), "beams changed places"
    logits = torch.stack(out.logits, 1)[index, torch.arange(24)]
    return report, out.sequences[:, -24:].unflatten(0, (-1, 3)), logits.unflatten(0, (-1, 3))


def one_by_one(model, inputs, policy, made, logits):
    """Each continuation again without beams, and its evictions then hidden from the dense model.

    All agree. What left, by continuation.
    """
    histories = []
    for number in range(3):
        with asymvlm.evict(model, policy, BUDGET) as report:
            alone = append_answers(model, inputs, made[:, number])
        histories.append(report.calls[0].evicted)
        expected = dense(model, inputs, made[:, number], histories[-1])
        close(alone, expected)
        close(logits[:, number], expected)
    return histories


@torch.no_grad()
def test_beams_equal_dense_layers_that_miss_what_left(case):
    model, _, inputs = case
    report, made, logits = beams(model, inputs, rule())
    histories = one_by_one(model, inputs, rule(), made, logits)
    assert histories[0] != histories[1], "beams lose different entries"
    # Of the beams that were alive in the end, in whatever order.
    for layer, rows in report.calls[0].evicted.items():
        assert all(
            pairs in [history[layer][number // 3] for history in histories]
            for number, pairs in enumerate(rows)
        )


@pytest.mark.parametrize("name", POLICIES)
@torch.no_grad()
def test_every_policy_on_beams_and_samples(small, name):
    model, inputs = small
    _, made, logits = beams(model, inputs, rule(name, model))
    one_by_one(model, inputs, rule(name, model), made, logits)
    with asymvlm.evict(model, rule(name, model), BUDGET) as report:
        out = model.generate(**inputs, **STEPS, **OPEN, do_sample=True, num_return_sequences=3)
    made, logits = (
        out.sequences[:, -24:].unflatten(0, (-1, 3)),
        torch.stack(out.logits, 1).unflatten(0, (-1, 3)),
    )
    histories = one_by_one(model, inputs, rule(name, model), made, logits)
    for number, history in enumerate(histories):
        assert history == {
            layer: rows[number::3] for layer, rows in report.calls[0].evicted.items()
        }


@pytest.mark.parametrize(
    "arguments",
    [{}, {"num_beams": 3}, {"do_sample": True, "num_return_sequences": 2}],
    ids=["greedy", "beams", "samples"],
)
@torch.no_grad()
def test_below_the_budget_nothing_changes(case, arguments, monkeypatch):
    model, _, inputs = case
    padding = {
        name: torch.nn.functional.pad(one, (3, 0))
        for name, one in inputs.items()
        if one.shape == inputs["input_ids"].shape
    }
    inputs = {**inputs, **padding}  # slots that could be written in every row
    monkeypatch.setattr(Entries, "write", None)
    torch.manual_seed(0)
    plain = model.generate(**inputs, **STEPS, **OPEN, **arguments)
    torch.manual_seed(0)
    with asymvlm.evict(model, rule(), text_budget=64) as report:
        made = model.generate(**inputs, **STEPS, **OPEN, **arguments)
    assert torch.equal(made.sequences, plain.sequences)
    assert all(torch.equal(*pair) for pair in zip(made.logits, plain.logits, strict=True)), (
        "to the last bit"
    )
    call = report.calls[0]
    assert call.held == call.seen and call.peak == max(call.seen) and not any(call.gone)
    assert not any(pairs for rows in call.evicted.values() for pairs in rows)


@torch.no_grad()
def test_a_full_layer_is_written_in_place(small, monkeypatch):
    """Text entries never exceed the budget by more than the one just written, and once every row is
    full nothing is copied any more.
    """
    model, inputs = small
    counts, homes, evict = [], [], EvictingLayer.evict

    def watched(self, new, policy, budget):
        before = self.entries.text.sum(-1)
        evict(self, new, policy, budget)
        after = self.entries.text.sum(-1)
        assert self.entries.valid[self.entries.text].all()
        counts.append((new.real.shape[1], int(before.max()), after.tolist(), self.ledger.held))
        homes.append((self.keys.data_ptr(), self.values.data_ptr(), self.keys.shape[-2]))

    monkeypatch.setattr(EvictingLayer, "evict", watched)
    with asymvlm.evict(model, rule(), BUDGET) as report:
        model.generate(**inputs, **STEPS)
    assert all(after == held and max(after) <= BUDGET for _, _, after, held in counts)
    assert all(before <= BUDGET + 1 for steps, before, _, _ in counts if steps == 1)
    # Both rows are full after 7 steps of the second; three layers a step.
    for layer in range(3):
        assert len(set(homes[3 * 10 + layer :: 3])) == 1
    vision = backbone_of(model).layout(inputs).vision.sum(-1)
    assert homes[-1][2] == int(vision.max()) + BUDGET + 1
    # Keys and values, rows, groups, width, fp32.
    size = sum(2 * 2 * 2 * 8 * 4 * slots for *_, slots in homes[-3:])
    assert report.calls[0].bytes == report.calls[0].peak_bytes == size


@pytest.mark.parametrize("length", [3, 12], ids=["full-later", "full-before"])
@torch.no_grad()
def test_further_turns_equal_dense_layers_that_miss_what_left(case, length):
    """The second turn brings five tokens at once, to a cache that has lost entries in neither, one
    or both rows.
    """
    model, inputs, _ = case
    if isinstance(backbone_of(model), QFormer):
        pytest.skip("its generate takes no cache")
    with asymvlm.evict(model, rule(), BUDGET) as report:
        tokens, logits = turns(model, inputs, {**STEPS, "max_new_tokens": length}, MORE)
    (call,) = report.calls
    assert tokens.shape == (2, 2 * length + 5)
    assert call.held == [BUDGET, BUDGET] and call.seen[0] - call.seen[1] == 14
    close(logits, dense(model, inputs, tokens, call.evicted)[:, -length:])


@pytest.mark.parametrize("name", ["Blip2", "InstructBlip"])
@torch.no_grad()
def test_prompts_that_reach_the_llm_as_embeddings(name):
    """Several samples of each prompt: which of their rows are text follows them."""
    model = family(name).build()
    inputs = families.batch(model, family(name), words=(20, 4))
    with asymvlm.evict(model, rule(), BUDGET) as report:
        out = model.generate(**inputs, **STEPS, **OPEN, do_sample=True, num_return_sequences=2)
    logits = torch.stack(out.logits, 1)
    for number in range(2):
        evicted = {layer: rows[number::2] for layer, rows in report.calls[0].evicted.items()}
        close(logits[number::2], dense(model, inputs, out.sequences[number::2, -24:], evicted))
    assert report.calls[0].seen == [23 + 23] * 2 + [9 + 23] * 2


def by_the_rule(name, attention, text, prompt):
    """What leaves a row by the rule of a policy as `rule` makes it, in plain words.

    (position, newest position).

    `attention` is the layer's, `[S, S]` by position, `text` the positions that are text, `prompt`
    how many stand in the prompt.
    """
    held, others, score, gone = (
        [],
        [place for place in range(len(attention)) if place not in text],
        {},
        [],
    )
    sinks, recent = {
        "threshold": (2, 4),
        "h2o": (0, BUDGET // 2),
        "tova": (0, 1),
        "snap_kv": (0, 5),
    }[name]
    for newest in range(prompt - 1, len(attention)):
        new = range(newest + 1) if newest == prompt - 1 else [newest]
        held += [place for place in text if place in new]
        row = attention[newest].tolist()
        for place in held:
            if name == "threshold":
                score[place] = 0.5 * score.get(place, 0.0) + row[place]
            if name == "h2o":
                score[place] = score.get(place, 0.0) + float(attention[list(new), place].sum())
            if name == "tova":
                score[place] = row[place]
        if name == "snap_kv":
            line = sorted(held + [place for place in others if place <= newest])
            mass = [
                float(attention[max(0, newest - 4) : newest + 1, place].sum()) for place in line
            ]
            score = {place: sum(mass[max(0, at - 2) : at + 3]) for at, place in enumerate(line)}
        mean = sum(score[place] for place in held) / len(held)
        low = 0.5 * mean if name == "threshold" else -1.0
        ranked = sorted(
            (place for place in held[sinks:] if place not in held[-recent:]),
            key=lambda place: (score[place] >= low, score[place] if score[place] >= low else place),
        )
        leaves = ranked[: max(0, len(held) - BUDGET)]
        held = [place for place in held if place not in leaves]
        gone += sorted((place, newest) for place in leaves)
    return gone


@pytest.mark.parametrize("name", ["threshold", "h2o", "tova", "snap_kv"])
@torch.no_grad()
def test_what_leaves_is_what_the_rule_says_of_eager_attention(small, name):
    """The policy's rule by hand, on the whole attention of a dense model that misses what the
    report says has left.
    """
    model, inputs = small
    with asymvlm.evict(model, rule(name, model), BUDGET) as report:
        out = model.generate(**inputs, **STEPS)
    evicted, tokens = report.calls[0].evicted, out[:, -24:-1]  # the last is never read
    before = model.config.text_config._attn_implementation
    model.set_attn_implementation({"text_config": "eager"})
    try:
        attentions = dense(model, inputs, tokens, evicted, output_attentions=True).attentions
    finally:
        model.set_attn_implementation({"text_config": before})
    layout, width = backbone_of(model).layout(inputs), inputs["input_ids"].shape[1]
    for layer, attention in enumerate(attentions):
        for row in range(2):
            real = torch.cat(
                [inputs["attention_mask"][row].bool(), torch.ones(23, dtype=torch.bool)]
            )
            text = (
                (~torch.cat([layout.vision[row], torch.zeros(23, dtype=torch.bool)]))[real]
                .nonzero()
                .squeeze(-1)
                .tolist()
            )
            own = attention[row].mean(0)[real][:, real]
            assert evicted[layer][row] == by_the_rule(name, own, text, int(real[:width].sum())), (
                layer,
                row,
            )


def conversation(model, inputs, policy, parts):
    """(report, logits of each row's newest token after each part): a prompt, then `parts`.

    (ids, which of them are real).
    """
    ids, mask, logits = inputs["input_ids"], inputs["attention_mask"], []
    with asymvlm.evict(model, policy, BUDGET) as report:
        cache = tf.DynamicCache()
        for words, there in [(ids, mask), *parts]:
            past = cache.get_seq_length()
            mask = there if past == 0 else torch.cat([mask, there], dim=1)
            positions = (mask.cumsum(-1) - 1).clamp_min(0)[:, past:]
            pictures = {"pixel_values": inputs["pixel_values"]} if past == 0 else {}
            out = model(
                input_ids=words,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                **pictures,
            )
            newest = words.shape[1] - 1 - there.flip(-1).argmax(-1)
            logits.append(out.logits[torch.arange(len(words)), newest])
    return report, logits


@pytest.mark.parametrize("name", POLICIES)
@torch.no_grad()
def test_a_batch_equals_its_samples_one_by_one(small, name):
    """Prompts and turns of different lengths, and a turn in which one row says nothing."""
    model, inputs = small
    one = torch.ones(2, 1, dtype=torch.long)
    parts = [
        (MORE, torch.tensor([[1, 1, 1, 1, 1], [0, 0, 0, 1, 1]])),
        *((MORE[:, [column]], one) for column in (2, 3, 4)),
        (MORE[:, :3], torch.tensor([[1, 0, 0], [1, 1, 1]])),
        (MORE.flip(0), torch.tensor([[0, 0, 0, 0, 0], [1, 1, 1, 1, 1]])),
        (MORE[:, :1], torch.tensor([[1], [0]])),
        *((MORE[:, [column]], one) for column in (0, 1, 2, 3)),
    ]
    report, logits = conversation(model, inputs, rule(name, model), parts)
    pictures = inputs["pixel_values"].split([1, 2])
    for row in range(2):
        real = inputs["attention_mask"][row].bool()
        prompt = {
            "input_ids": inputs["input_ids"][row : row + 1, real],
            "pixel_values": pictures[row],
        }
        own = [
            (words[row : row + 1, there[row].bool()], there[row : row + 1, there[row].bool()])
            for words, there in parts
        ]
        spoken = [number for number, (words, _) in enumerate(own) if words.shape[1]]
        own = [own[number] for number in spoken]
        alone, expected = conversation(
            model,
            {**prompt, "attention_mask": torch.ones_like(prompt["input_ids"])},
            rule(name, model),
            own,
        )
        assert alone.calls[0].held == [BUDGET]
        assert report.calls[0].seen[row] == alone.calls[0].seen[0]
        for layer, rows in alone.calls[0].evicted.items():
            assert report.calls[0].evicted[layer][row] == rows[0]
        for place, made in zip([0, *(number + 1 for number in spoken)], expected, strict=True):
            close(logits[place][row], made[0])


@pytest.mark.parametrize("name", ["threshold", "key_norm"])
@torch.no_grad()
def test_a_budget_for_vision(small, name):
    """Vision entries leave too, under the same policy and counted by themselves."""
    model, inputs = small
    with asymvlm.evict(model, rule(name, model), BUDGET, vision_budget=20) as report:
        out = model.generate(**inputs, **STEPS, **OPEN)
    call, tokens = report.calls[0], out.sequences[:, -24:]
    assert call.held == [BUDGET, BUDGET]
    layout = backbone_of(model).layout(inputs)
    place = places(inputs["attention_mask"])
    for rows in call.evicted.values():
        for row, pairs in enumerate(rows):
            vision = set(place[row][layout.vision[row]].tolist())
            gone = [position for position, _ in pairs if position in vision]
            assert (
                len(gone) == max(0, len(vision) - 20) and len(pairs) == len(gone) + call.gone[row]
            )
    close(torch.stack(out.logits, 1), dense(model, inputs, tokens, call.evicted))
    with asymvlm.evict(model, rule(name, model), BUDGET) as report:
        model.generate(**inputs, **STEPS)
    for rows in report.calls[0].evicted.values():
        for row, pairs in enumerate(rows):
            assert not {position for position, _ in pairs} & set(
                place[row][layout.vision[row]].tolist()
            ), "without one, vision stays"


@torch.no_grad()
def test_half_precision(case):
    model, inputs, _ = case
    half = copy.deepcopy(model).bfloat16()
    call = {
        name: value.bfloat16() if value.is_floating_point() else value
        for name, value in inputs.items()
    }
    with asymvlm.evict(half, rule("snap_kv"), BUDGET) as report:
        out = half.generate(**call, **STEPS, **OPEN)
    assert report.calls[0].held == [BUDGET, BUDGET] and report.calls[0].peak == BUDGET + 1
    logits = torch.stack(out.logits, 1)
    expected = dense(half, call, out.sequences[:, -24:], report.calls[0].evicted)
    assert (logits - expected).abs().mean() < 0.02 * expected.abs().max()
