from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from asymvlm.selectors import best, check_keep, count_for, gap_count, rank, tie_groups, top_k


@pytest.mark.parametrize(
    "keep,total,count",
    [
        (0.25, 256, 64),
        (1.0, 7, 7),
        (0.5, 3, 2),
        (0.5, 1, 1),
        (1e-9, 100, 1),
        (5, 3, 3),
        (1, 10, 1),
        (0.125, 20, 3),
        (0.49, 3, 1),
    ],
)
def test_count_rounds_half_up_and_stays_in_range(keep, total, count):
    assert count_for(keep, total) == count


def test_no_tokens_is_refused():
    with pytest.raises(ValueError, match="without any cannot be pruned"):
        count_for(0.5, 0)


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=40), st.data())
def test_top_k_is_exact_ascending_and_prefers_the_earlier_of_equals(values, data):
    scores = torch.tensor(values, dtype=torch.float)
    count = data.draw(st.integers(1, len(values)))
    kept = top_k(scores, count)
    expected = sorted(sorted(range(len(values)), key=lambda i: (-values[i], i))[:count])
    assert kept.tolist() == expected


@pytest.mark.parametrize(
    "scores,count",
    [
        ([9, 8, 1, 0.5], 2),  # the largest drop is from 8 to 1
        ([1, 9, 0.5, 8], 2),  # order does not matter
        ([5, 1, 1, 1], 1),
        ([2, 2, 2, 2], 4),  # no gap: nothing says what to drop
        ([3], 1),
    ],
)
def test_gap_rule_cuts_at_the_largest_drop(scores, count):
    assert gap_count(torch.tensor(scores, dtype=torch.float)) == count


def test_gap_rule_respects_its_range():
    scores = torch.tensor([100.0, 5, 4, 1, 0])
    # The drop behind the first is out of range; 4 to 1 is the next largest.
    assert gap_count(scores, at_least=0.4) == 3
    assert gap_count(scores, at_most=0.2) == 1


@pytest.mark.parametrize("keep", ["auto", "gap", 0.1, 1.0, 1, 500])
def test_accepted_keeps(keep):
    assert check_keep(keep) == keep


def near(scores, groups, spread=2**-22):
    """Scores by group, parted within a group as rounding parts them: by a few last places."""
    draw = torch.Generator().manual_seed(0)
    noise = 1 + spread * (2 * torch.rand(len(groups), generator=draw, dtype=torch.float64) - 1)
    return (torch.tensor([scores[group] for group in groups], dtype=torch.float64) * noise).float()


@given(st.lists(st.integers(0, 9), min_size=1, max_size=60), st.integers(0, 3))
def test_what_rounding_parts_is_ordered_by_index(groups, shift):
    """Ten values over six decades and both signs; the same order whatever the last bits are."""
    values = [10.0 ** (number / 2 - 3) * (-1) ** (number + shift) for number in range(10)]
    expected = sorted(range(len(groups)), key=lambda index: (-values[groups[index]], index))
    assert rank(near(values, groups)).tolist() == expected
    assert int(best(near(values, groups))) == expected[0]
    count = max(1, len(groups) // 2)
    assert top_k(near(values, groups), count).tolist() == sorted(expected[:count])


def test_terms_that_cancel_leave_their_rounding():
    """Near zero, what rounding leaves is relative to the terms, which are as large as other scores
    are.
    """
    assert rank(torch.tensor([0.0, 2e-7, 5.0, -1e-7, -3.0, 2.0, 1.0])).tolist() == [
        2,
        5,
        6,
        0,
        1,
        3,
        4,
    ]


@pytest.mark.parametrize(
    "draw", [torch.randn, torch.rand, lambda *a, **k: torch.randn(*a, **k).softmax(0)]
)
def test_different_scores_are_not_drawn_together(draw):
    """5,000 scores: neighbours that count as equal are few, and never many in a row."""
    scores = draw(5000, generator=torch.Generator().manual_seed(0))
    plain = scores.sort(descending=True, stable=True).indices
    moved = rank(scores) != plain
    assert float(moved.float().mean()) < 0.05
    assert int(tie_groups(scores).bincount().max()) <= 5


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1.0, 1e12])
def test_the_order_does_not_depend_on_scale(scale):
    scores = torch.randn(200, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert torch.equal(rank(scores * scale), rank(scores))


@pytest.mark.parametrize(
    "scores,order",
    [
        (torch.tensor([1.0]), [0]),
        (torch.zeros(3), [0, 1, 2]),
        (torch.tensor([-torch.inf, 1.0, torch.inf, -torch.inf, torch.inf]), [2, 4, 1, 0, 3]),
        (torch.tensor([2**40, 2**40 + 1, 2**40]), [1, 0, 2]),
        (torch.tensor([1.0, 1.0 + 1e-4], dtype=torch.float64), [1, 0]),
        (torch.tensor([1.0, 1.0078125], dtype=torch.bfloat16), [1, 0]),
        (torch.tensor([False, True, True]), [1, 2, 0]),
    ],
)
def test_ranks_of_every_kind_of_number(scores, order):
    assert rank(scores).tolist() == order


@given(st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=9), st.integers(1, 4))
def test_rows_are_ranked_by_themselves(row, others):
    rows = torch.stack(
        [torch.tensor(row, dtype=torch.float32)] + [torch.randn(len(row)) * 1e6] * others
    )
    assert torch.equal(rank(rows)[0], rank(rows[0])) and torch.equal(best(rows)[0], best(rows[0]))
    assert int(tie_groups(rows)[0, rank(rows)[0, 0]]) == 0


def test_the_gap_rule_does_not_depend_on_the_last_bit():
    """Two drops of the same size, parted by rounding: the first counts; all the same: none does."""
    for noise in (0.0, 4e-7, -4e-7):
        assert gap_count(torch.tensor([9.0 + noise, 8.0, 5.0, 4.5, 1.5 + noise, 1.0])) == 2
        assert gap_count(torch.tensor([4.0 + noise, 3.0, 2.0 - noise, 1.0])) == 4
