"""Budget targets where sums are rounded, and of samples without tokens."""

from __future__ import annotations

import pytest
import torch

from asymvlm.targets import BudgetTarget

UNKNOWN = torch.full((1,), torch.nan)


@pytest.mark.parametrize(
    "importance,tau,expected",
    [
        ([0.45, 0.35, 0.1, 0.1], 0.8, 2 / 4),  # 0.45 + 0.35 is a little below 0.8 in fp32
        ([1 / 25] * 25, 0.2, 5 / 25),  # so are five twenty-fifths
        ([0.45, 0.35, 0.1, 0.1], 0.801, 3 / 4),
    ],
)
def test_rounded_sums_need_no_further_token(importance, tau, expected):
    row = torch.tensor([importance])
    share = BudgetTarget(tau, "target")(row, row, row > 0, UNKNOWN)
    assert share.item() == pytest.approx(expected)


def test_a_sample_without_vision_tokens_has_a_target():
    row = torch.zeros(1, 4)
    assert BudgetTarget()(row, row, row > 0, UNKNOWN).tolist() == [1.0]
