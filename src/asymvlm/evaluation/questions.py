"""The questions of an evaluation: which pages, how they are grouped, and how answers are scored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import datasets

from ..documents import Sample, SkipReport, samples
from ..documents.sources.source import DataSource
from ..errors import DataError
from .answers import Answer
from .metrics import AnswerMetric, answer_metrics


def held_out(
    data: DataSource, split: str, pages: int, metric: AnswerMetric
) -> tuple[datasets.Dataset, SkipReport]:
    """Load the pages to evaluate on, and what was skipped.

    Raises DataError where there are none, ValueError where the metric cannot score them.
    """
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
    if name not in known:
        raise ValueError(f"metric: {name!r} is not one of {', '.join(known)}")
    return known[name]()


def scores_of(
    metric: AnswerMetric, answers: Sequence[Answer], questions: Sequence[Sample]
) -> list[float]:
    """Score one answer per question."""
    replies = [answer.text for answer in answers]
    return metric.scores(replies, [question.answers for question in questions])


def tasks_of(questions: Sequence[Sample]) -> Iterator[tuple[str, list[int]]]:
    """Group the questions: by group, all together, and by kind where a group has several."""
    groups = sorted({question.group for question in questions})
    for group in groups:
        yield group, _where(questions, group)
    if len(groups) > 1:
        yield "all", list(range(len(questions)))
    kinds = sorted({(question.group, question.kind) for question in questions})
    per_group = Counter(group for group, _ in kinds)
    for group, kind in kinds:
        if per_group[group] > 1:
            yield f"{group}/{kind}", _where(questions, group, kind)


def _where(questions: Sequence[Sample], group: str, kind: str | None = None) -> list[int]:
    return [
        index
        for index, question in enumerate(questions)
        if question.group == group and kind in (None, question.kind)
    ]
