"""Numbers nearly, words exactly: the metric of ChartQA."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from .base import QuestionMetric

_TOLERANCE = 0.05


class RelaxedAccuracy(QuestionMetric):
    """1 for a number within 5 % of an answer, or the same text in lower case; else 0.

    Formula: |given - answer| / |answer| <= 0.05 in double precision (1.05 for 1 is just outside).
    A number is what Python's `float` reads (`14.`, `1e3`, `1_000`, blanks around it), and the same
    before a closing `%`, which divides by 100; `1,000`, units and currencies make a text. Where the
    reply is no number, or the answer is none or zero, the texts must be the same, blanks included:
    `0.0` is wrong for `0`. Nothing is near `nan` or `inf`.
    Reference: ChartQA, Masry et al., arXiv 2203.10244, after Methani et al., arXiv 1909.00997; the
    data has no script, and this is what Pix2Struct's does, with which models since are reported.
    Of several answers the best counts, as in Qwen-VL's. No difference to these is left.
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
    if value is None or not expected:
        return given.lower() == answer.lower()
    return abs(value - expected) / abs(expected) <= _TOLERANCE


def _number(text: str) -> float | None:
    digits = text.rstrip("%")
    try:
        return float(digits) / (100 if digits != text else 1)
    except ValueError:
        return None
