"""The questions of an evaluation: which pages, how they are grouped, and how answers are scored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Protocol

import datasets

from ..documents import Sample, SkipReport, samples
from ..documents.sources.source import DataSource, as_data_flags
from ..errors import DataError
from ..limits import check_at_least, check_one_of
from .answers import Answer
from .metrics import AnswerMetric, answer_metrics

_Part = tuple[str | None, str | None]  # group and kind


class QuestionSettings(Protocol):
    """Settings that every evaluation has."""

    data: DataSource
    split: str
    pages: int
    metric: str
    longest_answer: int


def check_questions(settings: QuestionSettings) -> None:
    """Refuse, before any work, what every evaluation would; raises ValueError or DataError."""
    with as_data_flags():
        settings.data.check()
    check_at_least(1, {"pages": settings.pages, "longest_answer": settings.longest_answer})
    metric_named(settings.metric)
    check_split(settings.split)


def check_split(split: str) -> None:
    """Raise ValueError for a split that no data has."""
    check_one_of(("train", "val", "test"), {"split": split})


def held_out(
    data: DataSource, split: str, pages: int, metric: AnswerMetric
) -> tuple[datasets.Dataset, SkipReport]:
    """Load the pages to evaluate on, and what was skipped.

    Raises DataError where there are none, ValueError where the metric cannot score them.
    """
    with as_data_flags():
        found, skipped = data.pages(split, pages)
    check_answers(found, metric)
    return found, skipped


def usable_questions(pages: datasets.Dataset, skipped: SkipReport, out: Path) -> list[Sample]:
    """List the questions whose pictures can be decoded; the others are named.

    What was skipped goes to `skipped.jsonl` in `out`, beside the results.

    Raises DataError where none is left.
    """
    before = len(skipped.skipped)
    questions = list(samples(pages, report=skipped))
    skipped.used -= len(skipped.skipped) - before
    for line in skipped.lines():
        print(f"data.path: {line}")
    if not questions:
        raise DataError("; ".join(["data.path: no usable record", *skipped.lines(3)]))
    skipped.write(out)
    return questions


def check_answers(pages: datasets.Dataset, metric: AnswerMetric) -> None:
    """Raise ValueError where the metric makes no sense of the pages' answers."""
    questions = [question for page in pages["questions"] for question in page]
    metric.check([tuple(question["answers"]) for question in questions])


def metric_named(name: str) -> AnswerMetric:
    """Look up a metric by name.

    Raises ValueError for another, naming those that there are.
    """
    known = answer_metrics()
    check_one_of(list(known), {"metric": name})
    return known[name]()


def scores_of(
    metric: AnswerMetric, answers: Sequence[Answer], questions: Sequence[Sample]
) -> list[float]:
    """Score one answer per question."""
    replies = [answer.text for answer in answers]
    return metric.scores(replies, [question.answers for question in questions])


@dataclass(frozen=True)
class Task:
    """Questions that are reported together.

    Groups and kinds are the data's own words, so a label is for people: no two tasks have the same
    one, and nothing takes it apart.
    """

    label: str
    group: str | None  # None: of all groups
    kind: str | None  # None: of all kinds
    index: list[int]


def tasks_of(questions: Sequence[Sample]) -> list[Task]:
    """Group the questions: by group, all together, and by kind where a group has several."""
    groups = sorted({question.group for question in questions})
    kinds = sorted({(question.group, question.kind) for question in questions})
    per_group = Counter(group for group, _ in kinds)
    parts: list[_Part] = [(group, None) for group in groups]
    if len(groups) > 1:
        parts.append((None, None))
    return labelled(questions, [*parts, *(pair for pair in kinds if per_group[pair[0]] > 1)])


def labelled(questions: Sequence[Sample], parts: Sequence[_Part]) -> list[Task]:
    """Make the tasks of some groups and kinds; None stands for all of them.

    Groups are called as the data has them; a label that another task has is numbered.
    """
    groups = {group for group, kind in parts if group is not None and kind is None}
    whole = "all groups" if "all" in groups else "all"
    taken, tasks = set(groups), []
    for group, kind in parts:
        if group is not None and kind is None:
            label = group
        else:
            first = whole if group is None else group
            label = _unlike(first if kind is None else f"{first}/{kind}", taken)
        taken.add(label)
        tasks.append(Task(label, group, kind, _where(questions, group, kind)))
    return tasks


def _unlike(label: str, taken: Collection[str]) -> str:
    numbered = (f"{label} ({number})" for number in count(2))
    return next(text for text in chain([label], numbered) if text not in taken)


def _where(questions: Sequence[Sample], group: str | None, kind: str | None) -> list[int]:
    return [
        index
        for index, question in enumerate(questions)
        if group in (None, question.group) and kind in (None, question.kind)
    ]
