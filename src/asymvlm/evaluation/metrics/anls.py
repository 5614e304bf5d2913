"""Nearly the same letters: the metric of DocVQA."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from .base import QuestionMetric, folded


class ANLS(QuestionMetric):
    """Average normalised Levenshtein similarity.

    Formula: the maximum over answers a of 1 - NL if NL < 0.5, else 0, with NL = edit distance /
    length of the longer text, both without regard to case and surrounding space.
    Reference: Biten et al., arXiv 1905.13648 and 1907.00490. NL of exactly 0.5 gives 0 as in the
    papers' formula; the challenge's server gives 0.5.
    """

    kind: ClassVar[str] = "anls"

    def score(self, given: str, answers: Sequence[str]) -> float:
        return max(_similarity(folded(given), folded(answer)) for answer in answers)


def _similarity(given: str, answer: str) -> float:
    distance = edit_distance(given, answer) / max(len(given), len(answer), 1)
    return 1 - distance if distance < 0.5 else 0.0


def edit_distance(first: str, second: str) -> int:
    """Count the insertions, deletions and substitutions between two texts (Levenshtein, 1966).

    torchmetrics' own searches a beam of 25 letters beside the diagonal, and is too high for long
    texts with something missing.
    """
    row = list(range(len(second) + 1))
    for i, letter in enumerate(first, start=1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(second, start=1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (letter != other))
    return row[-1]
