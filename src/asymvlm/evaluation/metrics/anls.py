"""Nearly the same letters: the metric of DocVQA."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from .base import QuestionMetric

_LEAST = 0.5


class ANLS(QuestionMetric):
    """Average normalised Levenshtein similarity, as the challenges' script has it.

    Formula: the maximum over answers a of 1 - NL, and 0 where that is below 0.5. NL = edit distance
    / length of the longer text. The distance is between lower-case texts whose runs of blanks
    (spaces, tabs, line ends) are one space, with none at the ends; the lengths are those of the
    texts as they were given, in upper case, so spare blanks make an error weigh less. Two empty
    texts are alike.
    Reference: Biten et al., arXiv 1905.13648 and 1907.00490; the script is that of DocVQA and
    InfographicVQA (rrc.cvc.uab.es). NL of exactly 0.5 gives 0.5, as in the script; the papers'
    formula gives 0. No difference to the script is left.
    """

    kind: ClassVar[str] = "anls"

    def score(self, given: str, answers: Sequence[str]) -> float:
        similarity = 1 - min(_distance(given, answer) for answer in answers)
        return similarity if similarity >= _LEAST else 0.0


def _distance(given: str, answer: str) -> float:
    longest = max(len(given.upper()), len(answer.upper()))
    return edit_distance(_spaced(given), _spaced(answer)) / longest if longest else 0.0


def _spaced(text: str) -> str:
    return " ".join(text.lower().split())


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
