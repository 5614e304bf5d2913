"""Paired comparisons of methods, each as the mean of its runs (seeds, for example)."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pandas

from ..selectors import Keep
from ..storage.atomic import draft_file
from .bootstrap import paired_difference
from .report.results import ScoredRun
from .report.tables import markdown, percent, show


def check_comparisons(pairs: Sequence[tuple[str, str]], names: Sequence[str]) -> None:
    """Raise ValueError for a pattern that fits no method."""
    for pattern in (pattern for pair in pairs for pattern in pair):
        if not any(_fits(name, pattern) for name in names):
            raise ValueError(
                f"compare: {pattern!r} fits none of {', '.join(names)}; * stands for anything"
            )


def write_comparisons(
    pairs: Sequence[tuple[str, str]],
    judged: Sequence[ScoredRun],
    pages: Sequence[int],
    tasks: Sequence[tuple[str, Sequence[int]]],
    path: Path,
) -> None:
    """Print and write the accuracy, difference and tokens left of every pair, keep and task.

    Runs whose names fit a pattern are averaged question by question; then pages are resampled, not
    runs.
    """
    lines = []
    for names in pairs:
        for keep in dict.fromkeys(run.keep for run in judged):
            found = [_mean_run(judged, keep, name) for name in names]
            if any(run is None for run in found):
                continue
            lines += [_line(names, keep, task, index, found, pages) for task, index in tasks]
    table = pandas.DataFrame(lines, columns=_HEAD)
    show("paired comparisons", table)
    with draft_file(path) as draft:
        draft.write_text(markdown(table), encoding="utf-8")


def _mean_run(
    judged: Sequence[ScoredRun], keep: Keep, pattern: str
) -> tuple[int, np.ndarray, np.ndarray] | None:
    """The number of runs that fit a pattern, and means of scores and shares left per question."""
    runs = [run for run in judged if run.keep == keep and _fits(run.name, pattern)]
    if not runs:
        return None
    scores = np.mean([run.scores for run in runs], axis=0)
    left = np.mean([[answer.left for answer in run.answers] for run in runs], axis=0)
    return len(runs), scores, left


def _fits(name: str, pattern: str) -> bool:
    """Return whether a pattern is the name itself, whatever letters it has, or stands for it."""
    return name == pattern or fnmatchcase(name, pattern)


def _line(
    names: tuple[str, str],
    keep: Keep,
    task: str,
    index: Sequence[int],
    runs: Sequence[Any],
    pages: Sequence[int],
) -> tuple[str, ...]:
    places = list(index)
    (count, scores, left), (other_count, other_scores, other_left) = runs
    first, second = scores[places], other_scores[places]
    pages_of = [pages[place] for place in places]
    difference = paired_difference(first.tolist(), second.tolist(), pages_of)
    return (
        *names,
        f"{keep}",
        task,
        f"{len(places)}",
        f"{count}, {other_count}",
        percent(first.mean()),
        percent(second.mean()),
        f"{difference}",
        percent(left[places].mean()),
        percent(other_left[places].mean()),
    )


_HEAD = (
    "method", "against", "keep", "task", "n", "runs", "accuracy", "its accuracy",
    "difference (95 %)", "left", "its share left",
)  # fmt: skip
