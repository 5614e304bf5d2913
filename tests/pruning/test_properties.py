"""Random batches: any number of pictures, any padding, any share."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support import families

import asymvlm
from asymvlm.backbone import backbone_of

FAMILY = families.llava()
SAMPLES = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 6)), min_size=1, max_size=4).filter(
    lambda rows: any(n for n, _ in rows)
)


class Scattered(asymvlm.Method):
    """A share and an order that depend on the sample's own words."""

    def score(self, tokens):
        return torch.sin(
            torch.arange(len(tokens.vision)) * (1.3 + float(tokens.text_ids.sum() % 11))
        )

    def budget(self, tokens):
        return 0.05 + 0.9 * float(tokens.text_ids.sum() % 7) / 7


@pytest.fixture(scope="module")
def model():
    return FAMILY.build()


def batch(rows, right=False):
    """Left-padded, or right-padded."""
    torch.manual_seed(sum(words for _, words in rows))
    total = sum(count for count, _ in rows)
    prompts = [
        [1, *[7, *[families.IMAGE] * 16, 8] * count, *torch.randint(20, 120, (words,)).tolist()]
        for count, words in rows
    ]
    width = max(map(len, prompts))

    def padded(values):
        return torch.tensor(
            [v + [0] * (width - len(v)) if right else [0] * (width - len(v)) + v for v in values]
        )

    return {
        "input_ids": padded(prompts), "attention_mask": padded([[1] * len(ids) for ids in prompts]),
        "pixel_values": torch.randn(total, 3, 16, 16),
    }  # fmt: skip


def run(model, inputs):
    with torch.no_grad(), asymvlm.prune(model, Scattered(), keep="auto") as report:
        logits = model(**inputs).logits
    kept = report.calls[0]
    stays = backbone_of(model).layout(inputs).text
    vision = backbone_of(model).layout(inputs).vision
    for row, index in enumerate(kept.kept):
        stays[row, vision[row].nonzero().squeeze(-1)[index]] = True
    return [row[columns] for row, columns in zip(logits, stays, strict=True)], kept


@settings(max_examples=30, deadline=None)
@given(rows=SAMPLES, right=st.booleans())
def test_dropping_equals_masking(model, rows, right):
    inputs = batch(rows, right)
    pruned, call = run(model, inputs)
    backbone = backbone_of(model)
    mask = inputs["attention_mask"].clone()
    for row, index in enumerate(call.kept):
        columns = backbone.layout(inputs).vision[row].nonzero().squeeze(-1)
        mask[row, columns] = 0
        mask[row, columns[index]] = 1
    with torch.no_grad():
        dense = model(
            **{**inputs, "attention_mask": mask},
            position_ids=backbone.positions(inputs, generating=False),
        ).logits
    for row, logits in enumerate(pruned):
        torch.testing.assert_close(logits, dense[row][mask[row].bool()], atol=1e-5, rtol=0)


@settings(max_examples=20, deadline=None)
@given(rows=SAMPLES, data=st.data())
def test_permuting_the_batch_permutes_the_result(model, rows, data):
    order = data.draw(st.permutations(range(len(rows))))
    inputs = batch(rows)
    pictures = inputs["pixel_values"].split([count for count, _ in rows])
    moved = {
        **{name: inputs[name][order] for name in ("input_ids", "attention_mask")},
        "pixel_values": torch.cat([pictures[row] for row in order]),
    }
    straight, call = run(model, inputs)
    permuted, other = run(model, moved)
    for place, row in enumerate(order):
        assert torch.equal(other.kept[place], call.kept[row])
        torch.testing.assert_close(permuted[place], straight[row], atol=1e-5, rtol=0)


@settings(max_examples=20, deadline=None)
@given(rows=SAMPLES)
def test_a_batch_equals_its_samples_one_by_one(model, rows):
    inputs = batch(rows)
    together, call = run(model, inputs)
    pictures = inputs["pixel_values"].split([count for count, _ in rows])
    for row, (count, _) in enumerate(rows):
        if count == 0:
            continue  # no picture, nothing to prune
        real = inputs["attention_mask"][row].bool()
        alone = {
            "input_ids": inputs["input_ids"][row : row + 1, real],
            "pixel_values": pictures[row],
        }  # no mask: all are real
        logits, one = run(model, {**alone, "attention_mask": torch.ones_like(alone["input_ids"])})
        assert torch.equal(one.kept[0], call.kept[row])
        torch.testing.assert_close(logits[0], together[row], atol=1e-5, rtol=0)
        unmasked, _ = run(model, alone)
        assert torch.equal(unmasked[0], logits[0]), "a missing mask means that all is real"
