"""The reply is one of the answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from .base import QuestionMetric, folded


class ExactMatch(QuestionMetric):
    """1 where the reply is one of the answers, without regard to case and surrounding space.

    Else 0.
    """

    kind: ClassVar[str] = "exact_match"

    def score(self, given: str, answers: Sequence[str]) -> float:
        return float(folded(given) in {folded(answer) for answer in answers})
