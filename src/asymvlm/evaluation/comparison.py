"""Paired comparisons of methods, each as the mean of its runs (seeds, for example)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from ..selectors import Keep
from ..storage.atomic import draft_file
from .answers import Answer
from .bootstrap import paired_difference
from .report.tables import markdown, show


@dataclass(frozen=True)
class ScoredRun:
    """The answers of one method at one keep, with their scores."""

    name: str
    keep: Keep
    answers: Sequence[Answer]
    right: Sequence[float]


def check_comparisons(pairs: Sequence[tuple[str, str]], names: Sequence[str]) -> None:
    """Raise ValueError for a pattern that fits no method."""
    for pattern in (pattern for pair in pairs for pattern in pair):
        if not any(fnmatchcase(name, pattern) for name in names):
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
    head = (
        "method",
        "against",
        "keep",
        "task",
        "n",
        "runs",
        "accuracy",
        "against",
        "difference (95 %)",
        "left",
        "against",
    )
    lines = []
    for one, other in pairs:
        for keep in dict.fromkeys(run.keep for run in judged):
            first, second = (
                [run for run in judged if run.keep == keep and fnmatchcase(run.name, name)]
                for name in (one, other)
            )
            if not first or not second:
                continue
            right, right_other = (
                np.mean([run.right for run in runs], axis=0) for runs in (first, second)
            )
            left, left_other = (
                np.mean([[answer.left for answer in run.answers] for run in runs], axis=0)
                for runs in (first, second)
            )
            for task, places in tasks:
                index = list(places)
                difference = paired_difference(
                    right[index].tolist(),
                    right_other[index].tolist(),
                    [pages[place] for place in index],
                )
                lines.append(
                    (one, other, f"{keep}", task, f"{len(index)}", f"{len(first)}, {len(second)}",
                     f"{100 * right[index].mean():.1f}",
                     f"{100 * right_other[index].mean():.1f}", f"{difference}",
                     f"{100 * left[index].mean():.1f}",
                     f"{100 * left_other[index].mean():.1f}")
                )  # fmt: skip
    show("paired comparisons", head, lines)
    with draft_file(path) as draft:
        draft.write_text(markdown(head, lines), encoding="utf-8")
