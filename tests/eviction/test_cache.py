"""The cache of an evicting layer, on real models."""

from __future__ import annotations

import copy

import pytest
import torch
from support import families
from support.eviction_cases import by_the_rule, conversation
from support.eviction_runs import (
    BUDGET,
    MORE,
    OPEN,
    POLICIES,
    STEPS,
    close,
    dense,
    family,
    places,
    rule,
)

import asymvlm
from asymvlm.backbone import backbone_of
from asymvlm.eviction.cache import EvictingLayer


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
        counts.append((new.real.shape[1], int(before.max()), after.tolist(), self.counts.held))
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
