"""An answer stands somewhere in the reply."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from .base import QuestionMetric, folded


class Contains(QuestionMetric):
    """1 where the reply contains an answer, else 0. For models that answer in sentences.

    Both in lower case, without surrounding blanks and with spaces for line ends. Letters count, not
    words: `cat` is in `concatenate` and 5 is in 15, as in the script of OCRBench; for short answers
    that is generous.
    Reference: Liu et al., arXiv 2305.07895. What differs: of its HME100k formulas the script
    compares without any spaces and with the case; here they are like all others.
    """

    kind: ClassVar[str] = "contains"

    def score(self, given: str, answers: Sequence[str]) -> float:
        reply = _one_line(given)
        return float(any(_one_line(answer) in reply for answer in answers))

    def check(self, answers: Sequence[Sequence[str]]) -> None:
        for number, right in enumerate(answers, start=1):
            for item in right:
                if not item.strip():
                    raise ValueError(
                        f"contains: every reply contains the blank answer {item!r} of question "
                        f"{number}; leave it out"
                    )


def _one_line(text: str) -> str:
    return folded(text).replace("\n", " ")
