"""Numbers nearly, words exactly: the metric of ChartQA."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

from .base import QuestionMetric, folded

_NUMBER = re.compile(r"[+-]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?")
_TOLERANCE = 0.05


class RelaxedAccuracy(QuestionMetric):
    """1 for a number within 5 % of an answer, or the same text with case folded; else 0.

    Numbers are plain decimals, with or without a sign, commas between thousands and a closing %
    (12% is 0.12, as published evaluations have it); units and currencies make a text. Where the
    answer is zero, there is no 5 %: only zero is right.
    Reference: ChartQA, Masry et al., arXiv 2203.10244, after Methani et al., arXiv 1909.00997.
    """

    kind: ClassVar[str] = "relaxed_accuracy"

    def score(self, given: str, answers: Sequence[str]) -> float:
        return float(any(_close(given, answer) for answer in answers))

    def check(self, answers: Sequence[Sequence[str]]) -> None:
        texts = [item for right in answers for item in right]
        if all(_number(text) is None for text in texts):
            raise ValueError(
                "relaxed_accuracy: is for numbers, and no answer is one (the first is "
                f"{next(iter(texts), None)!r}); "
                "take exact_match or anls"
            )


def _close(given: str, answer: str) -> bool:
    value, expected = _number(given), _number(answer)
    if value is None or expected is None:
        return folded(given) == folded(answer)
    # A hair more than 5 %, so that 95 of 100 is not lost to binary fractions.
    return abs(value - expected) <= (_TOLERANCE + 1e-9) * abs(expected)


def _number(text: str) -> float | None:
    digits = text.strip().removesuffix("%").rstrip()
    if not _NUMBER.fullmatch(digits) or not any(character.isdigit() for character in digits):
        return None
    value = float(digits.replace(",", ""))
    return value / 100 if text.strip().endswith("%") else value
