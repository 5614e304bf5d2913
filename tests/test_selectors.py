from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from asymvlm.selectors import check_keep, count_for, gap_count, top_k


@pytest.mark.parametrize("keep,total,count", [
    (0.25, 256, 64), (1.0, 7, 7), (0.5, 3, 2), (0.5, 1, 1), (1e-9, 100, 1), (5, 3, 3), (1, 10, 1), (0.125, 20, 3), (0.49, 3, 1),
])  # fmt: skip
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


@pytest.mark.parametrize("scores,count", [
    ([9, 8, 1, 0.5], 2),  # the largest drop is from 8 to 1
    ([1, 9, 0.5, 8], 2),  # order does not matter
    ([5, 1, 1, 1], 1),
    ([2, 2, 2, 2], 4),  # no gap: nothing says what to drop
    ([3], 1),
])  # fmt: skip
def test_gap_rule_cuts_at_the_largest_drop(scores, count):
    assert gap_count(torch.tensor(scores, dtype=torch.float)) == count


def test_gap_rule_respects_its_range():
    scores = torch.tensor([100.0, 5, 4, 1, 0])
    assert gap_count(scores, at_least=0.4) == 3  # the drop behind the first is out of range; 4 to 1 is the next largest
    assert gap_count(scores, at_most=0.2) == 1


@pytest.mark.parametrize("keep", ["auto", "gap", 0.1, 1.0, 1, 500])
def test_accepted_keeps(keep):
    assert check_keep(keep) == keep
