"""Agreement with several people: the metric of VQA v2."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

from .base import QuestionMetric

_MARKS = ';/[]"{}()=+\\_-><@`,?!'
# The script means this limit as a flag of the regular expression, and removes no more.
_FULL_STOPS = 32
_ARTICLES = {"a", "an", "the"}
_DIGITS = {
    "none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5",
    "six": "6", "seven": "7", "eight": "8", "nine": "9", "ten": "10",
}  # fmt: skip
# Words by what follows them in a contraction, as far as the script knows them.
_CONTRACTED = {
    "n't": "ai are ca could did do does had has have is might must need ought sha should was were "
    "wo would",
    "n't've": "could had might should would",
    "'d": "he how it someone something there they where who you",
    "'d've": "he it she somebody someone something there they we who y'all you",
    "'ll": "how it somebody someone something they what who why y'all you",
    "'re": "there they what why you",
    "'s": "he how somebody someone that there what when where who why",
    "'ve": "could might must not should they we what where who would you",
    "": "ma'am o'clock 'ow's'at 'twas y'all",
}


def _without_one_apostrophe() -> dict[str, str]:
    """Contractions by what is left of them when any one apostrophe is."""
    whole = [word + end for end, words in _CONTRACTED.items() for word in words.split()]
    return {
        word[:place] + word[place + 1 :]: word
        for word in whole
        for place, letter in enumerate(word)
        if letter == "'"
    }


# The script takes the apostrophe out of this one.
_CONTRACTIONS = _without_one_apostrophe() | {"somebody'd": "somebodyd"}


class VQAAccuracy(QuestionMetric):
    """min(people who gave the reply / 3, 1), averaged over all choices of all people but one.

    The reply is first made alike to the data's answers: tabs and line ends to spaces;
    `; / [ ] " { } ( ) = + \\ _ - > < @ ` , ? !` to spaces, or to nothing where one of that mark is
    beside a space or any comma is between digits; no full stops but before digits; lower case;
    words for 0 to 10, and none, to digits; no articles; missing apostrophes into contractions.
    Answers are as they were given where all people agree, and have only the marks and full stops
    replaced where they do not: data that does not write its answers as VQA v2 does, in lower case
    without articles and with digits for words, cannot be matched. Of two answers, the most to be
    reached is 1/3.
    Reference: Antol et al., arXiv 1505.00468, and Goyal et al., arXiv 1612.00837; the script is
    that of visualqa.org. No difference to it is left. TextVQA's (Singh et al., arXiv 1904.08920)
    makes answers alike as it does replies, takes all commas and question marks out first, and parts
    `'s` from its word.
    """

    kind: ClassVar[str] = "vqa_accuracy"

    def score(self, given: str, answers: Sequence[str]) -> float:
        people = len(answers)
        said = _compared(answers).count(alike(given))
        # Who is left out gave the reply, or another.
        with_reply, with_other = said * min((said - 1) / 3, 1), (people - said) * min(said / 3, 1)
        return (with_reply + with_other) / people

    def check(self, answers: Sequence[Sequence[str]]) -> None:
        for number, right in enumerate(answers, start=1):
            if len(right) < 2:
                raise ValueError(
                    f"vqa_accuracy: counts how many people gave an answer, and question {number} "
                    f"has only {list(right)}; "
                    "take exact_match, or data with several people's answers"
                )
        if not any(alike(item) == item for right in answers for item in _compared(right)):
            raise ValueError(
                "vqa_accuracy: replies are compared in lower case, without articles and with "
                "digits for number words, and no answer is written so (the first are "
                f"{list(answers[0]) if answers else []}); write them so, or take exact_match"
            )


def _compared(answers: Sequence[str]) -> list[str]:
    return list(answers) if len(set(answers)) == 1 else [_without_marks(item) for item in answers]


def alike(text: str) -> str:
    """A reply as the metric compares it."""
    words = _without_marks(re.sub(r"[\n\t]", " ", text).strip()).lower().split()
    numbered = (_DIGITS.get(word, word) for word in words)
    return " ".join(_CONTRACTIONS.get(word, word) for word in numbered if word not in _ARTICLES)


def _without_marks(text: str) -> str:
    numbers = re.search(r"\d,\d", text) is not None
    marks = {
        ord(mark): "" if numbers or f"{mark} " in text or f" {mark}" in text else " "
        for mark in _MARKS
    }
    return re.sub(r"\.(?!\d)", "", text.translate(marks), count=_FULL_STOPS)
