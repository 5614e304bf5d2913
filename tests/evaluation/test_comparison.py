"""Methods against each other, each as the mean of its runs."""

from __future__ import annotations

import pytest

from asymvlm.evaluation.answers import Answer
from asymvlm.evaluation.comparison import ScoredRun, check_comparisons, write_comparisons


def judged(name, keep, right, left):
    answers = [
        Answer(f"q{number}", "x", 100, [100, left], 5, 1, None) for number in range(len(right))
    ]
    return ScoredRun(name, keep, answers, right)


def cells(path):
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in path.read_text().splitlines()[2:]
    ]


def test_runs_are_averaged_and_differences_are_paired(tmp_path):
    runs = [
        judged("two_0", 0.25, [1, 1, 1, 0], 20),
        judged("two_1", 0.25, [1, 1, 0, 0], 30),
        judged("one_0", 0.25, [0, 1, 0, 0], 25),
        judged("one_0", 0.5, [1, 1, 1, 1], 50),  # nothing to compare with at this keep
    ]
    write_comparisons(
        [("two_*", "one_*")],
        runs,
        [0, 0, 1, 1],
        [("all", range(4)), ("b", [2, 3])],
        tmp_path / "c.md",
    )
    lines = cells(tmp_path / "c.md")
    assert [line[3] for line in lines] == ["all", "b"]
    assert lines[0][2] == "0.25" and lines[0][5] == "2, 1"
    assert lines[0][6:8] == ["62.5", "25.0"] and lines[0][9:] == ["25.0", "25.0"]
    assert lines[0][8] == "+37.5 [+25.0, +50.0]", (
        "pages of +50 and +25 points, drawn with replacement"
    )
    assert lines[1][8] == "+25.0 [+25.0, +25.0]"


def test_a_pattern_must_fit(tmp_path):
    check_comparisons([("two_*", "one")], ["two_0", "one"])
    with pytest.raises(ValueError, match=r"compare: 'three\*' fits none of two_0, one"):
        check_comparisons([("two_*", "three*")], ["two_0", "one"])
