"""An answer stands somewhere in the reply."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

from .base import QuestionMetric, folded


class Contains(QuestionMetric):
    """1 where the reply contains an answer, case folded. For models that answer in sentences.

    Reference: the rule of OCRBench (arXiv 2305.07895), but of whole words and numbers: 5 is neither
    in 15 nor in 3.5.
    """

    kind: ClassVar[str] = "contains"

    def score(self, given: str, answers: Sequence[str]) -> float:
        return float(any(_stands_in(folded(answer), folded(given)) for answer in answers))

    def check(self, answers: Sequence[Sequence[str]]) -> None:
        for number, right in enumerate(answers, start=1):
            for item in right:
                if not item.strip():
                    raise ValueError(
                        f"contains: every reply contains the blank answer {item!r} of question "
                        f"{number}; leave it out"
                    )


def _stands_in(answer: str, reply: str) -> bool:
    return re.search(rf"(?<!\w)(?<!\d[.,]){re.escape(answer)}(?!\w)(?![.,]\d)", reply) is not None
