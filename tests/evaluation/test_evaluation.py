"""Intervals against plain arithmetic, ranking metrics against their definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from asymvlm.evaluation.bootstrap import paired_difference
from asymvlm.training.metrics import BudgetCoverage, EvidenceKept, GainNDCG, MassKept, RecallAtShare


def test_paired_difference_resamples_pages():
    first, second = [1, 1, 0, 1], [0, 1, 0, 0]
    got = paired_difference(first, second, [0, 0, 1, 1])
    # Both pages differ by a half: nothing to vary.
    assert got.difference == 50 and got.low == got.high == 50
    rng = np.random.default_rng(0)
    noisy = rng.random(400) < 0.6
    wide = paired_difference(noisy, np.zeros(400), np.arange(400))
    assert wide.low < 60 < wide.high and wide.high - wide.low == pytest.approx(
        2 * 196 * 0.49 / 20, rel=0.06
    )
    clustered = paired_difference(
        np.repeat(noisy[:40], 10), np.zeros(400), np.repeat(np.arange(40), 10)
    )
    assert clustered.high - clustered.low > 2 * (wide.high - wide.low)


def test_intervals_need_pairs():
    with pytest.raises(ValueError, match="as many values"):
        paired_difference([1], [1, 0], [0])


SCORES = torch.tensor([[4.0, 3, 2, 1, 9], [1, 2, 3, 4, 5]])
RELEVANCE = torch.tensor([[0.1, 0.6, 0.2, 0.1, 0], [0.2, 0.2, 0.2, 0.2, 0.2]])
MASK = torch.tensor([[True, True, True, True, False], [True] * 5])


@pytest.mark.parametrize("metric,expected", [
    (MassKept(0.5), (0.7 + 0.6) / 2),  # two of four; three of five (half rounds up)
    # Best of the scorer is token 0, of the target token 1; ties: the first.
    (RecallAtShare(0.25), (0.0 + 0.0) / 2),
])  # fmt: skip
def test_ranking_metrics_by_hand(metric, expected):
    metric.update(SCORES[:1], RELEVANCE[:1], MASK[:1])  # in two updates, as over batches
    metric.update(SCORES[1:], RELEVANCE[1:], MASK[1:])
    assert metric.compute().item() == pytest.approx(expected)


def test_ndcg_is_one_for_the_targets_own_order_and_less_for_another():
    metric = GainNDCG()
    metric.update(RELEVANCE, RELEVANCE, MASK)
    assert metric.compute().item() == pytest.approx(1)
    metric.update(SCORES, RELEVANCE, MASK)
    assert metric.compute().item() < 1


def test_samples_without_boxes_do_not_count():
    metric = EvidenceKept(0.5)
    metric.update(SCORES, torch.tensor([[0.5, 0, 0.5, 0, 0], [0, 0, 0, 0, 0]]), MASK)
    assert metric.compute().item() == pytest.approx(0.5)


def test_coverage_counts_samples_with_enough():
    metric = BudgetCoverage()
    metric.update(torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.1, 0.3, 0.1]))
    assert metric.compute().item() == pytest.approx(2 / 3)
