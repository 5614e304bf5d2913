"""Each policy's rule on a few entries, by hand."""

from __future__ import annotations

import pytest
import torch
from support.entry_rows import ATTENTION, Row

from asymvlm.eviction.base import NewEntries
from asymvlm.eviction.budget import budget_for
from asymvlm.eviction.policies.h2o import H2O
from asymvlm.eviction.policies.key_norm import KeyNorm
from asymvlm.eviction.policies.random import Random
from asymvlm.eviction.policies.snap_kv import SnapKV
from asymvlm.eviction.policies.streaming_llm import StreamingLLM
from asymvlm.eviction.policies.threshold import Threshold
from asymvlm.eviction.policies.tova import TOVA


@pytest.mark.parametrize(
    ("budget", "leaves"), [(6, [1]), (5, [1, 3]), (4, [1, 3, 5]), (3, [1, 3, 4, 5])]
)
def test_threshold_takes_the_oldest_below_it_then_the_lowest(budget, leaves):
    """Entry 3 has the least, yet 1 is older and below the threshold too.

    Above it, 5 has less than 4. 0 and 6 are protected.
    """
    row = Row(Threshold(threshold=0.5, sinks=1, recent=1), budget).add(["t" * 7], [[ATTENTION]])
    assert row.gone == leaves


def test_threshold_without_one_takes_the_lowest():
    assert Row(Threshold(threshold=0.0, sinks=1, recent=1), 6).add(
        ["t" * 7], [[ATTENTION]]
    ).gone == [3]


def test_threshold_forgets():
    """With a decay of a half, what was looked at one step ago counts half."""
    row = Row(Threshold(threshold=0.0, decay=0.5, sinks=0, recent=1), 3)
    row.add(["ttt"], [[[0.5, 0.3, 0.2]]])
    row.add(["t"], [[[0.1, 0.1, 0.2, 0.6]]])  # 0.35, 0.25, 0.3
    assert row.gone == [1]
    # Slot 1 is entry 4's now: 0.175, 0.15 + 0.1, 0.3 + 0.1
    row.add(["t"], [[[0.0, 0.5, 0.1, 0.1]]])
    assert row.gone == [1, 0]
    torch.testing.assert_close(row.layer.entries.score[0, 1:], torch.tensor([0.5, 0.25, 0.4]))


def test_streaming_llm_keeps_the_first_and_the_newest():
    row = Row(StreamingLLM(sinks=2, recent=1), 4).add(["tttttt"])
    assert row.gone == [2, 3]
    assert row.add(["t"]).gone == [2, 3, 4]


def test_h2o_sums_over_all_rows():
    """The last row alone would let 0 go; together, 1 has least but for 3, the newest.

    Half of the budget is for the newest.
    """
    rows = [[1.0, 0.0, 0.0, 0.0], [0.9, 0.1, 0.0, 0.0], [0.4, 0.2, 0.4, 0.0], [0.0, 0.3, 0.3, 0.4]]
    row = Row(H2O(), 3).add(["tttt"], [rows])
    assert row.gone == [1]
    torch.testing.assert_close(row.layer.entries.score[0], torch.tensor([2.3, 0.7, 0.4]))
    assert (
        budget_for(H2O(), 10, None).recent == 5 and budget_for(H2O(recent=2), 10, None).recent == 2
    )


def test_tova_looks_at_the_last_row_alone():
    rows = [[0.0, 0.5, 0.5, 0.0], [0.3, 0.1, 0.2, 0.4]]
    assert Row(TOVA(), 3).add(["tttt"], [rows]).gone == [1]
    assert Row(TOVA(), 3).add(["tttt"], [rows[::-1]]).gone == [0]


def test_snap_kv_pools_over_five_neighbours():
    """By itself 4 has least, but it has 2 and 6 in reach; 0 has only 2."""
    one = [0.05, 0.1, 0.5, 0.1, 0.0, 0.1, 0.5, 0.1, 0.1, 0.1]
    row = Row(SnapKV(window=2), 9).add(["t" * 10], [[one, one]])
    pooled = torch.nn.functional.pad(torch.tensor(one), (2, 2)).unfold(0, 5, 1).sum(-1)
    assert pooled[:8].argmin() == 0 and row.gone == [0]


def test_snap_kv_cuts_its_window_off_before_it_pools():
    """Sums over what is before a window of two: 0.4, 0.45, 0.45 and 0.25, so 3 has least.

    With what the window's rows pay to themselves they would be 0.4, 0.45, 0.75 and 0.8.
    """
    one = [0.2, 0.1, 0.1, 0.05, 0.3, 0.25]
    row = Row(SnapKV(window=2), 5).add(["t" * 6], [[one, one]])
    assert row.gone == [3]
    torch.testing.assert_close(
        SnapKV(window=2).rank(row.layer.entries)[0, :3], torch.tensor([0.4, 0.4, 0.4]) / 5
    )


def test_snap_kv_counts_its_window_in_rows_whatever_they_are():
    """Of pictures under a budget of their own, those in the window leave last.

    Sums before the window: 0.6 for 1 and 2, of which the older goes, and 0.5 for 3.
    """
    one = [0.1, 0.1, 0.3, 0.1, 0.0, 0.4]
    row = Row(SnapKV(window=2), 6, vision_budget=2).add(["tvvvvt"], [[one, one]])
    assert sorted(row.gone) == [1, 3]


def test_snap_kv_window_runs_on():
    """Of a window of two rows, the oldest falls out with each step, and rows of padding push
    nothing out.
    """
    policy = SnapKV(window=2)
    row = Row(policy, 30).add(["ttt"], [[[0.5, 0.5, 0.0], [0.2, 0.3, 0.5]]])
    row.add(["t"], [[[0.1, 0.2, 0.3, 0.4]]])
    past = row.layer.entries.attention_window[0]
    torch.testing.assert_close(past, torch.tensor([[0.2, 0.1], [0.3, 0.2], [0.5, 0.3], [0.0, 0.4]]))
    row.add([".t"], [[[0.0] * 6, [0.6, 0.1, 0.1, 0.1, 0.0, 0.1]]])
    torch.testing.assert_close(
        row.layer.entries.attention_window[0, :4],
        torch.tensor([[0.1, 0.6], [0.2, 0.1], [0.3, 0.1], [0.4, 0.1]]),
    )


def test_key_norm_takes_the_longest_key():
    row = Row(KeyNorm(sinks=1, recent=1), 4).add(
        ["tttttt"], lengths=[[9.0, 2.0, 5.0, 1.0, 3.0, 9.0]]
    )
    assert row.gone == [2, 4]
    # As rotary embedding leaves keys of one word.
    tied = [[1.0, 2.0, 2.0 * (1 + 1e-6), 2.0, 1.0, 1.0]]
    assert Row(KeyNorm(sinks=1, recent=1), 5).add(["tttttt"], lengths=tied).gone == [1], (
        "of equals the oldest"
    )


def test_key_norms_are_of_full_precision():
    """Roots of 65537 and 65540 are one number in bfloat16."""
    keys = torch.tensor([[[[256.0, 1.0], [256.0, 2.0]], [[0.0, 0.0], [0.0, 0.0]]]]).bfloat16()
    scores = KeyNorm().initial_score(NewEntries(0, keys, keys, torch.arange(2)[None]))
    expected = torch.tensor([[65537.0, 65540.0]]).sqrt() / 2
    assert scores.dtype == torch.float and torch.equal(scores, expected)


def test_random_depends_on_seed_and_position_alone():
    alone = Row(Random(7, sinks=1, recent=1), 5).add(["t" * 20])
    padded = Row(Random(7, sinks=1, recent=1), 5).add(["." * 4 + "t" * 20, "t" * 24])
    assert alone.gone == padded.gone and len(alone.gone) == 15
    assert Row(Random(8, sinks=1, recent=1), 5).add(["t" * 20]).gone != alone.gone
