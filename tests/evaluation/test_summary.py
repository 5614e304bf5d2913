"""The summary has one line a method; labels of the picture do not overlap."""

from __future__ import annotations

from dataclasses import fields

from asymvlm.evaluation.report.results import Row
from asymvlm.evaluation.report.summary import summary


def row(method, keep, task, accuracy, **more):
    blank = {field.name: 0.0 for field in fields(Row)}
    about = {
        "method": method,
        "keep_requested": keep,
        "task": task,
        "group": task,
        "kind": None,
        "accuracy": accuracy,
        "dense_accuracy": 0.9,
        "macs_prefill_dense": 200.0,
    }
    return Row(**{**blank, **about, **more})


def test_every_keep_is_a_column_and_what_was_not_run_is_a_dash():
    rows = [
        row("ours", 0.25, "whole", 0.8, macs_method=3.0),
        row("ours", 0.25, "part", 0.7),
        row("ours", 0.25, "all", 0.75, group=None),
        row("ours", "auto", "whole", 0.85, keep_mean=0.2),
        row("ours", "auto", "part", 0.75, keep_mean=0.1),
        row("deep", 0.125, "whole", 0.5, layer_average=0.34),
        row("deep", 0.125, "part", 0.4),
    ]
    lines = summary(rows).splitlines()
    assert lines[0] == "Accuracy in %: whole / part. Dense: 90.0 / 90.0."
    assert lines[2] == "| kept by | 0.25 | auto | 0.125 | layers see, at 0.125 | choosing |"
    assert lines[4] == "| ours | 80.0 / 70.0 | 85.0 / 75.0 (keeps 20.0 / 10.0) | - | - | 1.5 |"
    assert lines[5] == "| deep | - | - | 50.0 / 40.0 | 34.0 | 0.0 |"


def test_one_task_is_enough():
    assert "| ours | 50.0 |" in summary([row("ours", 4, "all", 0.5)])
    assert "| ours | 50.0 |" in summary([row("ours", 4, "all", 0.5, group=None)])


def test_a_group_called_all_is_a_group():
    rows = [
        row("ours", 0.25, "all", 0.8),
        row("ours", 0.25, "a/b", 0.7),
        row("ours", 0.25, "", 0.6),
        row("ours", 0.25, "x|y", 0.5),
        row("ours", 0.25, "all groups", 0.65, group=None),
    ]
    title, _, _, _, line = summary(rows).splitlines()
    assert title == ('Accuracy in %: all / "a/b" / "" / x\\|y. Dense: 90.0 / 90.0 / 90.0 / 90.0.')
    assert line.startswith("| ours | 80.0 / 70.0 / 60.0 / 50.0 |")
