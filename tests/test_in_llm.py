"""Pruning inside the LLM equals a dense model whose layers from there on do not see the dropped
columns.
"""

from __future__ import annotations

import families
import pytest
import torch
from families import LENGTH
from layer_hooks import before_layers

import asymvlm
from asymvlm.backbone import backbone_of
from asymvlm.pruning.layer_pruner import attention_from
from asymvlm.targets import AttentionTarget, EncodedBatch

# Their LLMs have sliding windows, or none of the rotary tables of Llama.
OTHER_DECODERS = {"Gemma3", "Cohere2Vision", "AyaVision", "Blip2", "InstructBlip"}
STEPS = {**LENGTH, "max_new_tokens": 8}


class Inside(asymvlm.Method):
    """A known order, different for each sample, before one or two layers."""

    layer = 1

    def __init__(self, second=False):
        self.second = second

    def stages(self, count, total, depth):
        return {1: (count + total) // 2, 2: count} if self.second else {2: count}

    def score(self, tokens):
        place = tokens.grid[:, 0] * 31 + tokens.grid[:, 1] * 7 + tokens.grid[:, 2]
        return torch.sin(place.float() * (1.0 + float(tokens.text_ids.sum() % 7)))


@pytest.fixture(params=families.IN_SEQUENCE, ids=str, scope="module")
def case(request):
    model = request.param.build()
    if request.param.name in OTHER_DECODERS:
        pytest.skip("refused: see test_other_decoders_are_refused")
    return (
        model,
        families.batch(model, request.param),
        families.batch(model, request.param, request.param.beams),
    )


def blind(model, inputs, stages):
    """The dense model while its layers from each of `stages` on (layer.

    Kept indices per sample) miss the other vision columns.
    """
    vision = backbone_of(model).layout(inputs).vision
    there = inputs["attention_mask"].bool()

    def hide(layer):
        kept = [index for start, index in sorted(stages.items()) if start <= layer][-1]
        seen = there.clone()
        for row, index in enumerate(kept):
            columns = vision[row].nonzero().squeeze(-1)
            seen[row, columns] = False
            seen[row, columns[index]] = True

        def hook(module, args, kwargs):
            hidden = args[0] if args else kwargs["hidden_states"]
            cache, mask = kwargs.get("past_key_values"), kwargs.get("attention_mask")
            past = 0 if cache is None else cache.layers[layer].get_seq_length()
            times = len(hidden) // len(seen)
            columns = torch.nn.functional.pad(
                seen.repeat_interleave(times, 0),
                (0, past + hidden.shape[1] - seen.shape[1]),
                value=True,
            )
            if mask is None:
                steps = torch.arange(hidden.shape[1])[:, None] + past
                mask = (torch.arange(columns.shape[1]) <= steps)[None, None]
            assert mask.dtype == torch.bool
            mask = mask & columns[:, None, None]
            mask = mask | ~mask.any(-1, keepdim=True)  # rows that see nothing are nobody's
            return args, {**kwargs, "attention_mask": mask}

        return hook

    return before_layers(model, hide, min(stages))


def first_stage(model, inputs):
    """What `Inside(second=True)` keeps before layer 1, from its own rule."""
    layout = backbone_of(model).layout(inputs, backbone_of(model).encode(inputs))
    kept = []
    for row, grid in enumerate(layout.grids):
        place = grid[:, 0] * 31 + grid[:, 1] * 7 + grid[:, 2]
        scores = torch.sin(
            place.float() * (1.0 + float(layout.input_ids[row][layout.text[row]].sum() % 7))
        )
        count = (max(1, int(0.4 * len(grid) + 0.5)) + len(grid)) // 2
        kept.append(torch.sort(scores, descending=True, stable=True).indices[:count].sort().values)
    return kept


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


class Late(asymvlm.Method):
    """Attention of the last text row in the layer below, as many methods take it."""

    layer = 1

    def score(self, tokens):
        return tokens.below().attention(slice(-1, None)).mean((0, 1))


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


def test_attention_from_rows_by_hand():
    """Two heads that share one key group; the second row of three sees the first two keys."""
    query = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])
    key = torch.tensor([[[1.0, 0.0], [0.0, 0.0], [5.0, 5.0]]])
    got = attention_from(query, key, torch.tensor([1]), None, 1.0)
    half = torch.tensor(0.5)
    seen = torch.tensor([1.0, 0.0]).softmax(0)
    torch.testing.assert_close(got[0, 0], torch.stack([seen[0], seen[1], torch.tensor(0.0)]))
    torch.testing.assert_close(got[1, 0], torch.stack([half, half, torch.tensor(0.0)]))


def test_merging_replaces_the_states(llava, batch):
    class Swaps(Late):
        def merge(self, tokens, kept):
            return tokens.vision[kept].flip(0)

    with torch.no_grad():
        with asymvlm.prune(llava, Late(), keep=0.5):
            plain = llava(**batch, logits_to_keep=1).logits
        with asymvlm.prune(llava, Swaps(), keep=0.5):
            swapped = llava(**batch, logits_to_keep=1).logits
    assert (plain - swapped).abs().max() > 1e-3


def test_further_turn_on_the_cache(llava, batch):
    """What follows on the cache sees the kept columns alone.

    Other calls in between do not matter.
    """
    tail = torch.tensor([[9, 10, 11]] * 3)
    with torch.no_grad(), asymvlm.prune(llava, Late(), keep=0.3) as report:
        out = llava(**batch)
        llava(input_ids=tail)  # text alone, of no cache
        longer = torch.cat([batch["attention_mask"], torch.ones_like(tail)], dim=1)
        positions = (longer.cumsum(-1) - 1).clamp_min(0)[:, -3:]
        step = llava(
            input_ids=tail,
            attention_mask=longer,
            position_ids=positions,
            past_key_values=out.past_key_values,
        ).logits
    assert report.text_only == 1
    with torch.no_grad(), blind(llava, batch, {1: report.calls[0].kept}):
        out = llava(**batch)
        expected = llava(
            input_ids=tail,
            attention_mask=longer,
            position_ids=positions,
            past_key_values=out.past_key_values,
        ).logits
    torch.testing.assert_close(step, expected, atol=1e-5, rtol=0)


def test_labels_keep_their_columns(llava, batch):
    labels = batch["input_ids"].masked_fill(batch["input_ids"] < 4, -100)
    # Predicted from the last vision token, which may go.
    labels[:, 1:][batch["input_ids"][:, :-1] == llava.config.image_token_id] = -100
    with asymvlm.prune(llava, Late(), keep=0.3) as report:
        loss = llava(**batch, labels=labels).loss
    with blind(llava, batch, {1: report.calls[0].kept}):
        expected = llava(**batch, labels=labels).loss
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", sorted(OTHER_DECODERS))
def test_other_decoders_are_refused(name):
    family = next(one for one in families.IN_SEQUENCE if one.name == name)
    model = family.build()
    with (
        pytest.raises(ValueError, match="Inside acts inside"),
        asymvlm.prune(model, Inside(), keep=0.5),
    ):
        pass


def test_bad_use_is_refused(llava, batch):
    class TooDeep(Late):
        layer = 7

    with (
        pytest.raises(
            ValueError, match=r"TooDeep acts before layers \[7\]; this LLM has layers 1 to 1"
        ),
        asymvlm.prune(llava, TooDeep()),
    ):
        llava(**batch)
    with (
        pytest.raises(ValueError, match="'auto' is for methods before the LLM"),
        asymvlm.prune(llava, Late(), keep="auto"),
    ):
        pass
    with (
        pytest.raises(ValueError, match="cache_implementation: 'static'"),
        asymvlm.prune(llava, Late()),
    ):
        llava.generate(**batch, cache_implementation="static")
    with pytest.raises(ValueError, match="use_cache"), asymvlm.prune(llava, Late()):
        llava.generate(**batch, use_cache=False)
    with torch.no_grad(), asymvlm.prune(llava, Late()):
        out = llava(**batch)
        with pytest.raises(ValueError, match="pictures cannot follow"):
            llava(**batch, past_key_values=out.past_key_values)
    assert "generate" not in vars(llava), "everything is put back"
