"""The reply is one of the answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from .base import QuestionMetric, folded


class ExactMatch(QuestionMetric):
    """1 where the reply is one of the answers, without regard to case and surrounding blanks.

    Else 0. Nothing else is made alike: not blanks within, punctuation, articles or numbers (5 is
    not 5.0), and case is lowered, not folded (`STRASSE` is not `straße`).
    Reference: Qwen-VL's exact-match accuracy (Bai et al., arXiv 2308.12966), with which AI2D, GQA
    and OCR-VQA are reported. What differs from other scripts: GQA's own (Hudson and Manning, arXiv
    1902.09506) regards case and blanks, so a reply in its data's lower case is judged the same;
    SQuAD's leaves out articles and punctuation.
    """

    kind: ClassVar[str] = "exact_match"

    def score(self, given: str, answers: Sequence[str]) -> float:
        return float(folded(given) in {folded(answer) for answer in answers})
