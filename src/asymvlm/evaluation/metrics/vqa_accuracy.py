"""Agreement with several people: the metric of VQA v2, TextVQA and others."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

from .base import QuestionMetric

_ARTICLES = {"a", "an", "the"}
_DIGITS = {
    "none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5",
    "six": "6", "seven": "7",
    "eight": "8", "nine": "9", "ten": "10",
}  # fmt: skip
# Only of words that are no other word without it: its, well, were and id stay apart from it's,
# we'll, we're and i'd.
_SPARE_APOSTROPHE = re.compile(r"(?<=n)'(?=t\b)|'(?=(?:ve|m)\b)|(?<=that|what)'(?=s\b)")


class VQAAccuracy(QuestionMetric):
    """min(people who gave the reply / 3, 1), averaged over choices of nine of ten answers.

    Reply and answers are first made alike: lower case; no commas between digits, no full stops but
    before digits; other punctuation to spaces (apostrophes, colons, % and currencies stay); zero to
    ten and none to digits; no articles; `don't`, `I've`, `I'm` and `that's` without apostrophe. The
    published script has longer lists, and makes answers alike only where people differ, and then
    not their number words and articles; here always. Of two answers, the most to be reached is 2/3.
    Reference: Antol et al., arXiv 1505.00468, and Goyal et al., arXiv 1612.00837.
    """

    kind: ClassVar[str] = "vqa_accuracy"

    def score(self, given: str, answers: Sequence[str]) -> float:
        said = sum(alike(answer) == alike(given) for answer in answers)
        if len(answers) != 10:
            return min(said / 3, 1.0)
        return (said * min((said - 1) / 3, 1.0) + (10 - said) * min(said / 3, 1.0)) / 10

    def check(self, answers: Sequence[Sequence[str]]) -> None:
        for number, right in enumerate(answers, start=1):
            if len(right) < 2:
                raise ValueError(
                    f"vqa_accuracy: counts how many people gave an answer, and question {number} "
                    f"has only {list(right)}; "
                    "take exact_match, or data with several people's answers"
                )


def alike(text: str) -> str:
    """A text as the metric compares it."""
    text = _SPARE_APOSTROPHE.sub("", text.lower().replace("\u2019", "'"))
    text = re.sub(r"(?<=\d),(?=\d)|\.(?!\d)", "", text)
    words = re.sub(r"[;/\[\]\"{}()=+\\_\-<>@`,?!]", " ", text).split()
    return " ".join(_DIGITS.get(word, word) for word in words if word not in _ARTICLES)
