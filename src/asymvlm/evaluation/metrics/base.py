"""What a metric of answers takes and gives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar


class AnswerMetric(ABC):
    """Judges a whole run: one reply per question, and the answers (at least one) that people gave to each."""

    kind: ClassVar[str]

    @abstractmethod
    def scores(self, given: Sequence[str], answers: Sequence[Sequence[str]]) -> list[float]:
        """One value per question, higher is better; in [0, 1] unless the class says otherwise. Their mean is the result."""

    def check(self, answers: Sequence[Sequence[str]]) -> None:  # noqa: B027 - most metrics fit all answers
        """Raises ValueError where the metric makes no sense of the data's answers; questions are counted from 1."""


class QuestionMetric(AnswerMetric):
    """A metric that needs to see no other question to judge one."""

    @abstractmethod
    def score(self, given: str, answers: Sequence[str]) -> float:
        """How right the reply is, in [0, 1]."""

    def scores(self, given: Sequence[str], answers: Sequence[Sequence[str]]) -> list[float]:
        return [self.score(one, right) for one, right in zip(given, answers, strict=True)]


def folded(text: str) -> str:
    """Without surrounding space and difference of case."""
    return text.strip().lower()
