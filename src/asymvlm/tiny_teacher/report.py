"""Accuracy of a teacher on unseen pages."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from ..distillation.teacher import Teacher
from ..documents.sample import Sample, samples
from ..documents.world.generated import generated_dialogues, generated_pages
from ..evaluation.answers import answer
from ..evaluation.metrics.exact_match import ExactMatch
from ..methods import Method
from ..methods.random import Random

_LONGEST = 12  # tokens of an answer


def reading_report(directory: str, pages: int, seed: int = 0) -> dict[str, Any]:
    """Exact match on held-out pages, dense and with random tokens, then on dialogues."""
    teacher = Teacher.load(directory)
    with TemporaryDirectory() as root:
        questions = list(samples(generated_pages(Path(root), "test", pages, seed)))
        talked = list(samples(generated_dialogues(Path(root), "test", pages, seed)))
    return {
        "pages": pages,
        "questions": len(questions),
        "dense": _accuracies(teacher, questions, None),
        "random 12.5 %": _accuracies(teacher, questions, Random()),
        "dialogues": _accuracies(teacher, talked, None),
    }


def _accuracies(
    teacher: Teacher, questions: Sequence[Sample], method: Method | None, size: int = 40
) -> dict[str, float]:
    """Share of right answers by group and kind."""
    right: dict[str, list[float]] = defaultdict(list)
    answers = [
        item
        for start in range(0, len(questions), size)
        for item in answer(teacher, questions[start : start + size], method, 0.125, _LONGEST)
    ]
    for sample, given in zip(questions, answers, strict=True):
        for key in {sample.group, sample.kind}:
            right[key].append(ExactMatch().score(given.text, sample.answers))
    return {key: round(float(np.mean(scores)), 4) for key, scores in sorted(right.items())}
