"""The interface of answer metrics."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar


class AnswerMetric(ABC):
    """Scores a whole run: one reply per question, and people's answers to each."""

    kind: ClassVar[str]

    @abstractmethod
    def scores(self, given: Sequence[str], answers: Sequence[Sequence[str]]) -> list[float]:
        """Score every question, higher is better; in [0, 1] unless the class says otherwise."""

    def check(self, answers: Sequence[Sequence[str]]) -> None:  # noqa: B027
        """Raise ValueError where the metric makes no sense of the data's answers."""


class QuestionMetric(AnswerMetric):
    """A metric that needs no other question to score one."""

    @abstractmethod
    def score(self, given: str, answers: Sequence[str]) -> float:
        """Score the reply, in [0, 1]."""

    def scores(self, given: Sequence[str], answers: Sequence[Sequence[str]]) -> list[float]:
        return [self.score(item, right) for item, right in zip(given, answers, strict=True)]


def folded(text: str) -> str:
    """Strip surrounding space and fold case."""
    return text.strip().lower()
