"""The learning-rate schedule by hand."""

from __future__ import annotations

import pytest

from asymvlm.training.lr_schedule import warm_up_cosine


def test_ten_steps_by_hand():
    """A rise over two steps to the peak, then half a cosine over the eight others.

    Behind `share` s of these the factor is 0.05 + 0.95 (1 + cos(pi s)) / 2: cos(pi / 4) is 0.7071,
    so 0.05 + 0.95 * 0.85355 = 0.8609 at s = 1 / 4.
    """
    expected = {0: 0.5, 1: 1.0, 2: 1.0, 4: 0.8609, 6: 0.525, 8: 0.1891, 10: 0.05, 99: 0.05}
    factors = {step: warm_up_cosine(step, 10, 2) for step in expected}
    assert factors == pytest.approx(expected, abs=1e-4)


def test_the_floor_can_be_set():
    assert warm_up_cosine(10, 10, 2, floor=0.2) == pytest.approx(0.2)
    assert warm_up_cosine(6, 10, 2, floor=0.2) == pytest.approx(0.6)


def test_a_run_that_is_all_warm_up():
    assert [warm_up_cosine(step, 2, 4) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert warm_up_cosine(4, 2, 4) == 1.0
