"""Pruning inside the LLM equals a dense model whose layers from there on miss the columns."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from support.inside_llm import STEPS, Inside, Late, blind, first_stage

import asymvlm
from asymvlm.backbone import backbone_of
from asymvlm.targets import AttentionTarget, EncodedBatch


@pytest.mark.parametrize("second", [False, True], ids=["one-stage", "two-stages"])
@torch.no_grad()
def test_equals_layers_that_miss_the_columns(case, second):
    model, inputs, for_beams = case
    if second and type(model).__name__.startswith("Qwen3VL"):
        with (
            pytest.raises(ValueError, match="reads vision features again"),
            asymvlm.prune(model, Inside(second), keep=0.4),
        ):
            model(**inputs)
        return
    with asymvlm.prune(model, Inside(second), keep=0.4) as report:
        pruned = model(**inputs).logits
        made = model.generate(**inputs, **STEPS)
    call = report.calls[0]
    assert len(set(call.after)) > 1, "ragged"
    assert call.per_layer(3)[0] == [
        call.before[0],
        (call.after[0] + call.before[0]) // 2 if second else call.before[0],
        call.after[0],
    ]
    stages = {1: first_stage(model, inputs), 2: call.kept} if second else {2: call.kept}
    with blind(model, inputs, stages):
        dense = model(**inputs).logits
        expected = model.generate(**inputs, **STEPS)
    layout = backbone_of(model).layout(inputs)
    torch.testing.assert_close(pruned[layout.text], dense[layout.text], atol=1e-5, rtol=0)
    assert torch.equal(made, expected)
    with asymvlm.prune(model, Inside(second), keep=0.4) as report:
        beams = model.generate(**for_beams, **STEPS, num_beams=3)
    stages = (
        {1: first_stage(model, for_beams), 2: report.calls[0].kept}
        if second
        else {2: report.calls[0].kept}
    )
    with blind(model, for_beams, stages):
        assert torch.equal(beams, model.generate(**for_beams, **STEPS, num_beams=3))


@torch.no_grad()
def test_keep_all_is_bit_identical(case):
    model, inputs, _ = case
    dense, made = model(**inputs).logits, model.generate(**inputs, **STEPS)
    with asymvlm.prune(model, Inside(), keep=1.0) as report:
        assert torch.equal(model(**inputs).logits, dense)
        assert torch.equal(model.generate(**inputs, **STEPS), made)
    assert report.calls[0].after == report.calls[0].before


@torch.no_grad()
def test_batch_equals_one_by_one(llava, batch):
    with asymvlm.prune(llava, Late(), keep=0.3) as report:
        together = llava(**batch, logits_to_keep=1).logits
        for row in range(3):
            there = batch["attention_mask"][row].bool()
            one = {
                "input_ids": batch["input_ids"][row : row + 1, there],
                "pixel_values": batch["pixel_values"][row : row + 1],
            }
            alone = llava(
                **one,
                attention_mask=torch.ones_like(one["input_ids"]),
                position_ids=there.nonzero().T,
                logits_to_keep=1,
            ).logits
            torch.testing.assert_close(alone[0], together[row], atol=1e-5, rtol=0)
    for row in range(3):
        assert torch.equal(report.calls[0].kept[row], report.calls[row + 1].kept[0])


@torch.no_grad()
def test_what_methods_see_of_the_layer_below(llava, batch):
    """Attention, keys and states are those of the model itself."""
    seen = []

    class Looks(Late):
        def score(self, tokens):
            seen.append(tokens)
            view = tokens.below()
            assert view.keys.shape == (256, llava.config.text_config.hidden_size)
            assert len(view.text_keys) == len(tokens.text) == len(tokens.text_ids)
            return super().score(tokens)

    with asymvlm.prune(llava, Looks(), keep=0.5) as report:
        llava(**batch)
    backbone = backbone_of(llava)
    encoded = backbone.encode(batch)
    layout = backbone.layout(batch, encoded)
    last = AttentionTarget("last", layers=[0])(
        backbone, EncodedBatch(batch, encoded, layout, layout.text, [])
    )
    for row in range(3):
        scores = report.calls[0].scores[row]
        torch.testing.assert_close(scores / scores.sum(), last[row], atol=1e-5, rtol=0)
    hidden = llava(**batch, output_hidden_states=True).hidden_states[1]
    torch.testing.assert_close(seen[1].vision, hidden[1][layout.vision[1]])
    torch.testing.assert_close(seen[1].text, hidden[1][layout.text[1]])
    normed = seen[1].below().final_norm(hidden)
    torch.testing.assert_close(normed, backbone.decoder.norm(hidden))
    vision, text = seen[1].llm_inputs()
    torch.testing.assert_close(vision, encoded.rows[256:512])
    torch.testing.assert_close(text, backbone.embed_text(batch["input_ids"][1][layout.text[1]]))


@pytest.mark.parametrize("other", [None, "evict"])
@torch.no_grad()
def test_what_methods_see_of_their_own_layer(case, other):
    """Its attention is that of a dense model, before the layer has run and lost columns.

    At a second stage it is that of a model that misses what the first dropped. No cache is written
    to, in a context of `evict` neither.
    """
    model, inputs, _ = case
    if type(model).__name__.startswith("Qwen3VL"):
        pytest.skip("reads vision features again in its first layers")
    if other and getattr(model.config.get_text_config(), "sliding_window", None):
        pytest.skip("has no layer that evicts")
    stages: list[list[torch.Tensor]] = [[], []]

    class Looks(Inside):
        def score(self, tokens):
            number = int(len(tokens.grid) < len(tokens.llm_inputs()[0]))
            rows = slice(-2, None)
            stages[number].append(tokens.below().own_attention(rows).mean(0))
            assert not torch.equal(stages[number][-1], tokens.below().attention(rows).mean(0))
            return super().score(tokens)

    open_too = nullcontext() if other is None else asymvlm.evict(model, text_budget=1000)
    with open_too, asymvlm.prune(model, Looks(second=True), keep=0.4):
        model.generate(**inputs, **STEPS)
    kept, backbone = first_stage(model, inputs), backbone_of(model)
    layout = backbone.layout(inputs)
    for number, missing in enumerate(({}, {1: kept})):
        with blind(model, inputs, missing) if missing else nullcontext():
            for sample in range(len(kept)):
                text = layout.text[sample].nonzero()[-2:, 0]
                vision = layout.vision[sample].nonzero()[:, 0]
                vision = vision[kept[sample]] if missing else vision
                for row, column in enumerate(text):
                    rows = torch.zeros(layout.text.shape)
                    rows[sample, column] = 1.0
                    whole = backbone.attention(inputs, layout, rows, [number + 1], "mean")[sample]
                    expected = whole[kept[sample]] if missing else whole
                    torch.testing.assert_close(
                        stages[number][sample][row], expected, atol=1e-5, rtol=1e-4
                    )
