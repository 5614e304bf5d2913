"""Eviction and pruning at once.

What leaves, and when, does not depend on which was opened first.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager

import pytest
import torch
from support import families
from support.eviction_runs import BUDGET, MORE, OPEN, STEPS, close, dense, family, rule, turns
from support.families import ByCell

import asymvlm
from asymvlm.backbone import backbone_of


class Inside(asymvlm.Method):
    """Prunes before the LLM's last layer, by what the layer below looks at."""

    layer = 2

    def score(self, tokens):
        return tokens.below().attention(slice(-1, None)).mean((0, 1))


class Asks(ByCell):
    """Runs the dense LLM before it chooses."""

    def score(self, tokens):
        return tokens.dense_attention("last") + super().score(tokens)


@contextmanager
def both(model, method, policy, prune_first):
    """Pruning and eviction at once: (report of the first, of the second)."""
    with ExitStack() as stack:
        opened = (
            [stack.enter_context(asymvlm.prune(model, method, keep=0.5))] if prune_first else []
        )
        report = stack.enter_context(asymvlm.evict(model, policy, BUDGET))
        yield (opened or [stack.enter_context(asymvlm.prune(model, method, keep=0.5))])[0], report


PAIRS = [
    (name, method)
    for name in ("Llava", "Qwen2_5_VL", "InternVL")
    for method in (ByCell, Inside, Asks)
]


@pytest.mark.parametrize(("name", "method"), [*PAIRS, ("Gemma3", ByCell), ("Blip2", ByCell)])
@torch.no_grad()
def test_goes_together_with_pruning_in_either_order(name, method):
    model = family(name).build()
    before, generate = model.config.get_text_config()._attn_implementation, model.generate
    inputs = families.batch(model, family(name), words=(20, 4))
    backbone = backbone_of(model)
    found = []
    for prune_first in (True, False):
        with both(model, method(), rule(), prune_first) as (pruned, evicted):
            out = model.generate(**inputs, **STEPS, **OPEN)
        found.append((out.sequences, pruned.calls[0].kept, evicted.calls[0].evicted))
        assert evicted.calls[0].held == [BUDGET, BUDGET]
    (sequences, kept, evictions), second = found
    assert torch.equal(sequences, second[0]) and evictions == second[2]
    assert all(map(torch.equal, kept, second[1]))
    assert (
        model.config.get_text_config()._attn_implementation == before and model.generate == generate
    )
    hidden = backbone.layout(inputs).vision
    for row, index in enumerate(kept):
        hidden[row, hidden[row].nonzero().squeeze(-1)[index]] = False
    expected = dense(
        model, inputs, sequences[:, -24:], evictions, hidden=hidden, start=method.layer or 0
    )
    close(torch.stack(out.logits, 1), expected)
    assert len({len(index) for index in kept}) > 1, "ragged"


@pytest.mark.parametrize("prune_first", [True, False])
@torch.no_grad()
def test_pruning_that_ends_sooner_leaves_eviction_in_place(small, prune_first):
    model, inputs = small
    with asymvlm.evict(model, rule(), BUDGET) as report:
        expected = model.generate(**inputs, **STEPS)
        with asymvlm.prune(model, Inside(), keep=0.5):
            model.generate(**inputs, **STEPS)
        assert torch.equal(model.generate(**inputs, **STEPS), expected)
    assert [call.held for call in report.calls] == [[BUDGET, BUDGET]] * 3
    assert report.calls[0].evicted == report.calls[2].evicted
    assert "generate" not in vars(model)


@pytest.mark.parametrize("method", [ByCell, Inside])
@pytest.mark.parametrize("name", ["Llava", "Qwen2_5_VL"])
@torch.no_grad()
def test_further_turns_on_a_pruned_prompt(name, method):
    model = family(name).build()
    inputs = families.batch(model, family(name), words=(20, 4))
    hidden = backbone_of(model).layout(inputs).vision
    found = []
    for prune_first in (True, False):
        with both(model, method(), rule(), prune_first) as (pruned, evicted):
            found.append(turns(model, inputs, {**STEPS, "max_new_tokens": 8}, MORE))
    assert torch.equal(found[0][0], found[1][0])
    for row, index in enumerate(pruned.calls[0].kept):
        hidden[row, hidden[row].nonzero().squeeze(-1)[index]] = False
    (tokens, logits), (call,) = found[0], evicted.calls
    assert call.held == [BUDGET, BUDGET]
    close(
        logits,
        dense(model, inputs, tokens, call.evicted, hidden=hidden, start=method.layer or 0)[:, -8:],
    )
