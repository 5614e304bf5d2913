"""Each term against an independent formula."""

from __future__ import annotations

import math

import pytest
import torch

from asymvlm.objectives import (
    AnswerCrossEntropy,
    AnswerDivergence,
    BudgetRegression,
    Distillation,
    Distraction,
    Hardening,
    Labels,
    Prediction,
    Ranking,
    Sparsity,
)


def labels(importance, keep=None, mask=None):
    importance = torch.tensor(importance)
    mask = torch.ones_like(importance, dtype=torch.bool) if mask is None else torch.tensor(mask)
    keep = torch.ones(len(importance)) if keep is None else torch.tensor(keep)
    return Labels(importance, keep, mask)


def test_distillation_is_kl_over_the_samples_own_tokens():
    p, s = [0.5, 0.5, 0.0, 0.0], [1.0, 2.0, 3.0, 99.0]
    mask = [[True, True, True, False]]
    z = sum(math.exp(x) for x in s[:3])
    expected = sum(0.5 * (math.log(0.5) - math.log(math.exp(x) / z)) for x in s[:2])
    value = Distillation()(Prediction(torch.tensor([s]), torch.ones(1)), labels([p], mask=mask))
    assert value.item() == pytest.approx(expected, rel=1e-5)


def test_distillation_is_zero_at_the_target_and_ignores_padding_gradients():
    p = torch.tensor([[0.7, 0.2, 0.1, 0.0]])
    scores = torch.tensor([[*p[0, :3].log().tolist(), 5.0]], requires_grad=True)
    value = Distillation()(
        Prediction(scores, torch.ones(1)),
        Labels(p, torch.ones(1), torch.tensor([[True] * 3 + [False]])),
    )
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-6)
    assert scores.grad.abs().max() < 1e-6


def test_ranking_against_a_plain_double_loop():
    torch.manual_seed(0)
    scores, p = torch.randn(3, 6), torch.rand(3, 6).softmax(-1)
    mask = torch.ones(3, 6, dtype=torch.bool)
    mask[2, 4:] = False
    p[2, 4:] = 0
    total = 0.0
    for row in range(3):
        best = p[row].argsort(descending=True)[:2].tolist()
        share = p[row, best].sum()
        for i in best:
            worse = [j for j in range(6) if mask[row, j] and p[row, j] < p[row, i]]
            losses = [
                math.log1p(math.exp(0.5 - float(scores[row, i] - scores[row, j]))) for j in worse
            ]
            total += float(p[row, i] / share) * sum(losses) / max(1, len(losses))
    value = Ranking(best=2, margin=0.5)(
        Prediction(scores, torch.ones(3)), Labels(p, torch.ones(3), mask)
    )
    assert value.item() == pytest.approx(total / 3, rel=1e-5)


def test_budget_regression_finds_the_quantile():
    targets = torch.linspace(0.05, 0.95, 91)
    uniform = torch.full((91, 1), 1.0)
    mask = torch.ones(91, 1, dtype=torch.bool)
    losses = {
        guess: BudgetRegression(quantile=0.9)(
            Prediction(uniform, torch.full((91,), guess)), Labels(uniform, targets, mask)
        ).item()
        for guess in torch.arange(0.05, 0.96, 0.01).tolist()
    }
    assert min(losses, key=losses.get) == pytest.approx(0.86, abs=0.011)


def test_sparsity_is_the_mean_keep():
    assert Sparsity()(
        Prediction(torch.zeros(2, 1), torch.tensor([0.2, 0.4])), labels([[1.0], [1.0]])
    ).item() == pytest.approx(0.3)


@pytest.mark.parametrize(
    "make",
    [lambda: Distillation(-1), lambda: Ranking(best=0), lambda: BudgetRegression(quantile=1.0)],
)
def test_bad_settings_name_the_value(make):
    with pytest.raises(ValueError, match="must"):
        make()


def answered(answers, dense, ids):
    """Two samples with answers of two tokens and of one."""
    scores = torch.zeros(2, 3)
    mask = torch.ones(2, 3, dtype=torch.bool)
    prediction = Prediction(scores, torch.ones(2), answers=torch.tensor(answers))
    return prediction, Labels(scores, torch.ones(2), mask, torch.tensor(dense), torch.tensor(ids))


def test_answer_terms_by_hand():
    """p = (3/4, 1/4) and q = (1/2, 1/2) on one token of the first sample, p = q on the other.

    Nothing of what stands on padding counts.
    """
    three, even = [math.log(3.0), 0.0], [0.0, 0.0]
    prediction, teacher = answered(
        [[even, three], [three, [9.0, 0.0]]],
        [[three, three], [three, [0.0, 9.0]]],
        [[0, 1], [0, -100]],
    )
    kl = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert AnswerDivergence()(prediction, teacher).item() == pytest.approx(
        (kl / 2 + 0) / 2, rel=1e-5
    )
    first = (math.log(2) + math.log(4)) / 2
    assert AnswerCrossEntropy(1.0)(prediction, teacher).item() == pytest.approx(
        (first + math.log(4 / 3)) / 2, rel=1e-5
    )


def test_distraction_by_hand():
    """The mean score is 1, over three tokens; the fourth is padding.

    Only distractors go down, by a lower score or a higher mean.
    """
    scores = torch.tensor([[2.0, 1.0, 0.0, 50.0]], requires_grad=True)
    teacher = labels([[1.0, 0.0, 0.0, 0.0]], mask=[[True, True, True, False]])
    teacher.distractors = torch.tensor([[0.0, 0.75, 0.25, 0.0]])
    value = Distraction(1.0, margin=0.5)(Prediction(scores, torch.ones(1)), teacher)
    assert value.item() == pytest.approx(
        0.75 * math.log1p(math.exp(0.5)) + 0.25 * math.log1p(math.exp(-0.5)), rel=1e-5
    )
    value.backward()
    first, more, less, padding = scores.grad[0].tolist()
    assert more > 0 > first and less < more and padding == 0


def test_hardening_by_hand_and_over_time():
    gates, mask = [[0.9, 0.2, 0.4, 1.0]], [[True, True, True, False]]
    logs = torch.tensor(gates).log().masked_fill(~torch.tensor(mask), -torch.inf).requires_grad_()
    prediction = Prediction(
        torch.tensor([[3.0, 1.0, 2.0, 9.0]]), torch.ones(1), logs, torch.tensor([1.5])
    )
    term = Hardening(2.0, first_weight=0.5)
    value = term(prediction, labels([[0.0] * 4], mask=mask))
    # Two are chosen: 1.5 rounded half up.
    expected = -(math.log(0.9) + math.log(0.8) + math.log(0.4)) / 3
    assert value.item() == pytest.approx(expected, rel=1e-5)
    value.backward()
    assert logs.grad.isfinite().all()
    assert [term.weight_at(progress) for progress in (0.0, 0.5, 1.0)] == [0.5, 1.25, 2.0]
    assert Sparsity(0.3).weight_at(0.5) == 0.3
