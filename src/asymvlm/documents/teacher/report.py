"""How well a teacher reads pages that it has not seen."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from ...evaluation.answers import answer
from ...evaluation.metrics.exact_match import ExactMatch
from ...methods.random import Random
from ...teacher import Teacher
from ..generated import generated_pages
from ..sample import samples


def reading_report(directory: str, pages: int, seed: int = 0) -> dict[str, Any]:
    """Exact match per group and kind of question on held-out pages, dense and with a random eighth of the vision tokens."""
    teacher = Teacher.load(directory)
    with TemporaryDirectory() as root:
        asked = list(samples(generated_pages(Path(root), "test", pages, seed)))
    right: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    judge = ExactMatch()
    for name, method in (("dense", None), ("random 12.5 %", Random())):
        answers = [one for start in range(0, len(asked), 40) for one in answer(teacher, asked[start : start + 40], method, 0.125, 8)]
        for sample, given in zip(asked, answers, strict=True):
            for key in (sample.group, sample.kind):
                right[name][key].append(judge.score(given.text, sample.answers))
    return {
        "pages": pages,
        "questions": len(asked),
        **{name: {key: round(float(np.mean(marks)), 4) for key, marks in sorted(groups.items())} for name, groups in right.items()},
    }
