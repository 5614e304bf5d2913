"""Answers behind gates.

An open gate is the token, a shut one the token dropped, on every family with tokens in its
sequence.
"""

from __future__ import annotations

import pytest
import torch
from support import families

from asymvlm.backbone import backbone_of
from asymvlm.distillation.answer_logits import answer_logits, gated_answer_logits
from asymvlm.errors import DataError
from asymvlm.gates import SoftTopK
from asymvlm.gates.straight_through import SHUT
from asymvlm.targets import EncodedBatch

ANSWERS = [torch.tensor([31, 41, 2]), torch.tensor([59, 2])]


def looked(model, inputs):
    backbone = backbone_of(model)
    with torch.no_grad():
        encoded = backbone.encode(inputs)
    layout = backbone.layout(inputs, encoded)
    return backbone, EncodedBatch(inputs, encoded, layout, layout.text, ANSWERS)


@pytest.fixture(params=families.IN_SEQUENCE, ids=str, scope="module")
def case(request):
    model = request.param.build().requires_grad_(False)
    return looked(model, families.batch(model, request.param))


def compare(first, second):
    """Rows behind a sample's last token mean nothing."""
    for row, ids in enumerate(ANSWERS):
        torch.testing.assert_close(
            first[row, : len(ids)], second[row, : len(ids)], atol=1e-5, rtol=1e-5
        )


@torch.no_grad()
def test_dense_answers_are_what_a_plain_call_gives():
    family = families.IN_SEQUENCE[0]
    model = family.build()
    inputs = families.batch(model, family, (1,), (7,))
    backbone, batch = looked(model, inputs)
    batch.answer_ids = ANSWERS[:1]
    behind = torch.cat([inputs["input_ids"], ANSWERS[0][None, :-1]], -1)
    plain = model(
        **{**inputs, "input_ids": behind, "attention_mask": torch.ones_like(behind)}
    ).logits[:, -3:]
    torch.testing.assert_close(answer_logits(backbone, batch), plain, atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_open_and_shut_gates_are_tokens_there_and_gone(case):
    backbone, batch = case
    dense = answer_logits(backbone, batch)
    everything = [torch.zeros(count) for count in batch.layout.counts()]
    for gate_mode in ("mask", "scale"):
        compare(gated_answer_logits(backbone, batch, everything, gate_mode), dense)
    kept = [torch.arange(0, count, 2) for count in batch.layout.counts()]
    shut = [
        torch.full((count,), SHUT).index_fill(0, one, 0.0)
        for count, one in zip(batch.layout.counts(), kept, strict=True)
    ]
    dropped = answer_logits(backbone, batch, kept)
    compare(gated_answer_logits(backbone, batch, shut), dropped)
    assert (dropped - dense).abs().max() > 1e-4


def test_gradients_reach_the_scores_and_nothing_else(case):
    backbone, batch = case
    for gate_mode in ("mask", "scale"):
        scores = [
            torch.randn(count, generator=torch.Generator().manual_seed(0)).requires_grad_()
            for count in batch.layout.counts()
        ]
        gates = [
            SoftTopK()(
                one[None],
                torch.ones(1, len(one), dtype=torch.bool),
                torch.tensor([len(one) / 3]),
                0.0,
            )[0]
            for one in scores
        ]
        gated_answer_logits(backbone, batch, gates, gate_mode).float().log_softmax(-1)[
            :, :, 31
        ].sum().backward()
        assert all(
            one.grad is not None and one.grad.abs().max() > 0 and one.grad.isfinite().all()
            for one in scores
        )
    assert all(parameter.grad is None for parameter in backbone.model.parameters())


@pytest.mark.parametrize("family", families.CROSS_ATTENTION, ids=str)
def test_models_without_tokens_in_the_sequence_are_refused(family):
    model = family.build()
    backbone, batch = looked(model, families.cross_batch(family))
    with pytest.raises(DataError, match="no vision tokens in its sequence"):
        gated_answer_logits(backbone, batch, [])


def test_an_unknown_way_is_refused(case):
    with pytest.raises(ValueError, match="gate_mode: 'value' is not one of mask, scale"):
        gated_answer_logits(*case, [], "value")
