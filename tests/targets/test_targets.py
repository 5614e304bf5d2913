"""Attention targets equal eager attention; the other targets equal their definition."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import pytest
import torch
from PIL import Image

import asymvlm
from asymvlm.backbone import backbone_of
from asymvlm.backbone.prompt import Prompter
from asymvlm.distillation.teacher import Teacher
from asymvlm.evaluation.answers import pruned_prefill
from asymvlm.methods.teacher_attention import TeacherAttention
from asymvlm.selectors import top_k
from asymvlm.targets import (
    AttentionTarget,
    BudgetTarget,
    EvidenceTarget,
    MixedTarget,
    OutsideBoxes,
    ShuffledTarget,
    dense_answer_shares,
)


def asked_of(kind):
    """Questions as prompts take them: with a dialogue before them, and about two pictures."""
    page = Image.new("RGB", (64, 64), "white")
    alone = _Asked((page,), "How much is lamp?", ())
    dialogue = _Asked((page,), "And tea?", (("How much is cups?", "47"),))
    several = _Asked((page, page), "Which is darker?", ())
    return {"alone": [alone], "dialogue": [alone, dialogue], "several": [several]}[kind]


@dataclass(frozen=True)
class _Asked:
    images: tuple
    question: str
    history: tuple


@pytest.mark.parametrize("kind", ["alone", "dialogue", "several"])
def test_a_question_is_its_words_without_the_template(llava, processor, kind):
    prompter, backbone = Prompter(processor), backbone_of(llava)
    inputs = prompter(asked_of(kind)).inputs
    backbone.template_ids = prompter.masked_ids
    layout = backbone.layout(inputs)
    said = [
        [*(part for turn in one.history for part in turn), one.question] for one in asked_of(kind)
    ]
    for row, mask, words in zip(inputs["input_ids"], layout.question, said, strict=True):
        decoded = prompter.decode(row[mask][None])[0]
        assert decoded.replace(" ", "") == "".join(words).replace(" ", "")
    assert (layout.after_pictures & ~layout.question).any() and not (
        layout.question & ~layout.after_pictures
    ).any()
    backbone.template_ids = ()
    plain = backbone.layout(inputs)
    assert torch.equal(plain.question, plain.after_pictures), "where no template is known"


@torch.no_grad()
def test_question_rows_are_one_thing_as_target_and_as_oracle(llava, processor, page_samples):
    """In fp64 to the last bit, for a padded batch.

    And another distribution without the template's ids.
    """
    model = copy.deepcopy(llava).double()
    teacher = Teacher(model, Prompter(processor))
    learned = [
        one.importance for one in teacher.observe(page_samples[:3], AttentionTarget("question"))
    ]

    def oracle(**more):
        with asymvlm.prune(model, TeacherAttention("question"), 1.0, **more) as report:
            model(**teacher.inputs(page_samples[:3]), logits_to_keep=1)
        return [scores / scores.sum() for scores in report.calls[0].scores]

    told = oracle(template_ids=teacher.prompter.masked_ids)
    assert all(torch.equal(*pair) for pair in zip(told, learned, strict=True))
    assert all(
        float((one - other).abs().sum()) > 1e-3
        for one, other in zip(oracle(), learned, strict=True)
    )


@torch.no_grad()
def test_an_evaluation_tells_the_template(llava, processor, page_samples):
    """What an evaluation keeps by question rows is what a target of question rows names first."""
    teacher = Teacher(copy.deepcopy(llava), Prompter(processor))
    (learned,) = teacher.observe(page_samples[:1], AttentionTarget("question"))
    call = pruned_prefill(teacher, page_samples[0], TeacherAttention("question"), 16)
    assert torch.equal(call.kept[0], top_k(learned.importance, 16))


def eager_rows(model, batch, rows, tails=None):
    """The definition: softmax attention of the eager model, one sample at a time."""
    model.set_attn_implementation("eager")
    result = []
    try:
        for sample in range(3):
            real = batch.inputs["attention_mask"][sample].bool()
            ids = batch.inputs["input_ids"][sample][real]
            tail = batch.answer_ids[sample][:-1] if rows == "answer" else ids[:0]
            out = model(
                input_ids=torch.cat([ids, tail])[None],
                pixel_values=batch.inputs["pixel_values"][sample : sample + 1],
                output_attentions=True,
            )
            mean = torch.stack(out.attentions).mean((0, 2))[0]
            if rows == "question":
                wanted = batch.text_mask[sample][real].nonzero().squeeze(-1)
            else:
                wanted = torch.arange(len(ids) - 1, len(ids) + len(tail))
            vision = (ids == 2).nonzero().squeeze(-1)
            mass = mean[wanted].mean(0)[vision]
            result.append(mass / mass.sum())
    finally:
        model.set_attn_implementation("sdpa")
    return result


@pytest.mark.parametrize("rows", ["question", "last", "answer"])
def test_equals_eager_attention(observed, llava, rows):
    backbone, batch = observed
    with torch.no_grad():
        expected = eager_rows(llava, batch, rows)
    for got, want in zip(AttentionTarget(rows=rows)(backbone, batch), expected, strict=True):
        torch.testing.assert_close(got, want, atol=1e-6, rtol=1e-4)


def test_early_stop_gives_the_same_and_leaves_the_model_whole(observed, llava):
    backbone, batch = observed
    first = AttentionTarget(rows="last", layers=[0])(backbone, batch)
    assert len(llava.model.language_model.layers) == 2
    both = AttentionTarget(rows="last", layers=[0, 1])(backbone, batch)
    second = AttentionTarget(rows="last", layers=[-1])(backbone, batch)
    assert not torch.allclose(first[0], second[0])
    assert torch.allclose(both[0], both[0].abs()) and both[0].sum() == pytest.approx(1, abs=1e-5)


def test_sharpen_and_heads(observed):
    backbone, batch = observed
    plain = AttentionTarget(rows="last")(backbone, batch)[0]
    sharp = AttentionTarget(rows="last", sharpen=2.0)(backbone, batch)[0]
    torch.testing.assert_close(sharp, plain**2 / (plain**2).sum())
    assert not torch.allclose(AttentionTarget(rows="last", heads="max")(backbone, batch)[0], plain)


def test_boxes_and_mixture(observed):
    backbone, batch = observed
    boxes = EvidenceTarget(key_weight=0.5)(backbone, batch)
    want = batch.evidence[0] + 0.5 * batch.key_boxes[0]
    torch.testing.assert_close(boxes[0], want / want.sum())
    attention = AttentionTarget()(backbone, batch)
    mixed = MixedTarget(AttentionTarget(), EvidenceTarget(key_weight=0.5), share=0.25)(
        backbone, batch
    )
    torch.testing.assert_close(mixed[1], 0.75 * attention[1] + 0.25 * boxes[1])


def test_sample_without_boxes_is_uniform(observed):
    backbone, batch = observed
    batch.evidence[1] = torch.zeros(256)
    torch.testing.assert_close(EvidenceTarget()(backbone, batch)[1], torch.full((256,), 1 / 256))


def test_data_without_boxes_is_refused(observed):
    backbone, batch = observed
    batch.evidence = None
    with pytest.raises(ValueError, match="needs data with evidence_boxes"):
        EvidenceTarget()(backbone, batch)


def test_outside_boxes_is_what_is_left_of_the_inner_target(observed):
    backbone, batch = observed
    attention = AttentionTarget()(backbone, batch)
    outside = OutsideBoxes(AttentionTarget())(backbone, batch)
    inside = batch.evidence[0] + batch.key_boxes[0] > 0
    assert inside.any() and outside[0][inside].sum() == 0 and outside[0].sum() == pytest.approx(1)
    torch.testing.assert_close(
        outside[0][~inside], attention[0][~inside] / attention[0][~inside].sum()
    )
    batch.evidence[1], batch.key_boxes[1] = torch.zeros(256), torch.zeros(256)
    assert OutsideBoxes(AttentionTarget())(backbone, batch)[1].abs().sum() == 0, (
        "without boxes nothing is known to be no evidence"
    )
    batch.key_boxes = None
    with pytest.raises(ValueError, match="OutsideBoxes needs evidence and key boxes"):
        OutsideBoxes(AttentionTarget())(backbone, batch)


def test_shuffled_keeps_the_values_and_loses_the_places(observed):
    backbone, batch = observed
    plain = EvidenceTarget()(backbone, batch)[0]
    shuffled = ShuffledTarget(EvidenceTarget())(backbone, batch)[0]
    assert torch.equal(plain.sort().values, shuffled.sort().values) and not torch.equal(
        plain, shuffled
    )


@pytest.mark.parametrize(
    "tau,ranking,expected",
    [
        (0.5, "target", 1 / 4),
        (0.9, "target", 3 / 4),
        (1.0, "target", 1.0),
        (0.5, "scorer", 3 / 4),
        (0.05, "scorer", 2 / 4),
    ],
)
def test_budget_is_the_smallest_share_that_holds_tau(tau, ranking, expected):
    importance = torch.tensor([[0.1, 0.2, 0.6, 0.1, 0.0]])
    scores = torch.tensor([[1.0, 4.0, 2.0, 3.0, 9.0]])  # its order: 1 3 2 0, the last is padding
    mask = torch.tensor([[True] * 4 + [False]])
    if tau == 0.05:
        scores = torch.tensor([[4.0, 1.0, 0.0, 3.0, 9.0]])
        importance = torch.tensor([[0.02, 0.2, 0.68, 0.1, 0.0]])
    assert BudgetTarget(tau, ranking)(
        importance, scores, mask, torch.full((1,), torch.nan)
    ).item() == pytest.approx(expected)


def test_dense_answer_shares_against_pruning_one_by_one(observed, llava, processor, page_samples):
    import asymvlm

    backbone, batch = observed
    importance = AttentionTarget(rows="last")(backbone, batch)
    ladder = [0.02, 0.1, 0.4, 0.8]
    got = dense_answer_shares(backbone, batch, importance, ladder)
    prompter = Prompter(processor)
    expected = []
    for sample, scores in zip(page_samples[::2], importance, strict=True):
        inputs = prompter([sample]).inputs

        class Known(asymvlm.Method):
            def score(self, tokens, scores=scores):
                return scores

        dense = llava.generate(**inputs, max_new_tokens=16, do_sample=False)
        share = 1.0
        for keep in reversed(ladder):
            with asymvlm.prune(llava, Known(), keep=keep):
                if not torch.equal(
                    llava.generate(**inputs, max_new_tokens=16, do_sample=False), dense
                ):
                    break
            share = keep
        expected.append(share)
    torch.testing.assert_close(got, torch.tensor(expected))
    assert len(set(expected)) > 1, "the test wants samples that differ"
    uniform = torch.full((3, 256), 1 / 256)
    target = BudgetTarget(ladder=ladder)(
        uniform, uniform, torch.ones(3, 256, dtype=torch.bool), got
    )
    assert torch.equal(target, got)


@pytest.mark.parametrize(
    "make",
    [
        lambda: AttentionTarget(rows="all"),
        lambda: AttentionTarget(sharpen=0),
        lambda: BudgetTarget(tau=0),
        lambda: BudgetTarget(ladder=[0]),
        lambda: BudgetTarget(ranking="x"),
        lambda: MixedTarget(EvidenceTarget(), EvidenceTarget(), 2),
    ],
)
def test_bad_settings_are_refused(make):
    with pytest.raises(ValueError):
        make()
