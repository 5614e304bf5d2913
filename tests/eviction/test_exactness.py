"""Eviction is exact.

It equals a dense model whose layers do not see what was evicted, from that step on.
"""

from __future__ import annotations

import pytest
import torch
from support.eviction_cases import beams, one_by_one
from support.eviction_runs import (
    BUDGET,
    MORE,
    OPEN,
    PLACEHOLDERS,
    POLICIES,
    STEPS,
    close,
    dense,
    rule,
    turns,
)

import asymvlm
from asymvlm.backbone import backbone_of
from asymvlm.backbone.families.q_former import QFormer
from asymvlm.eviction.entries import Entries


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
    made = out.sequences[:, -24:].unflatten(0, (-1, 3))
    logits = torch.stack(out.logits, 1).unflatten(0, (-1, 3))
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
