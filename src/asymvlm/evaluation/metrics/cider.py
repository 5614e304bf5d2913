"""Consensus with several people's sentences: the metric of captions."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import ClassVar

from .base import AnswerMetric

_LONGEST = 4  # words
_SIGMA = 6.0  # words
_CONTRACTION = re.compile(r"(?<=\w)(n't|'(?:s|m|d|re|ve|ll))\b")
_WORD = re.compile(r"n't\b|'(?:s|m|d|re|ve|ll)\b|(?:\d+(?:[.,:/]\d+)+|\w+)(?:-\w+)*|[$%#&@*+=]")
_Gram = tuple[str, ...]


class CIDEr(AnswerMetric):
    """CIDEr-D, in [0, 10]; depends on all questions of the run. Papers print 100 times the mean.

    Formula: 10 x the mean over n = 1..4 and over answers s of exp(-(l(c) - l(s))^2 / (2 x 6^2)) x
    min(g(c), g(s)) . g(s) / (|g(c)| |g(s)|), with l the length in words and g the counts of
    n-grams, each times log(questions / questions with an answer that has it). Words are in lower
    case and without punctuation; contractions are two (do n't, it 's), words with hyphens one, as
    are numbers with points, commas, colons or slashes, and each of $ % # & @ * + =.
    Reference: Vedantam et al., arXiv 1411.5726; the script is COCO's. What differs: it asks a Java
    program (PTBTokenizer) for words, which also keeps the points of abbreviations (a.m.) and the
    signs of numbers, parts cannot and gonna, and has names of its own for brackets.
    """

    kind: ClassVar[str] = "cider"

    def scores(self, given: Sequence[str], answers: Sequence[Sequence[str]]) -> list[float]:
        references = [[_words(item) for item in right] for right in answers]
        found: Counter[_Gram] = Counter()
        for right in references:
            found.update(
                {
                    gram
                    for words in right
                    for n in range(1, _LONGEST + 1)
                    for gram in _grams(words, n)
                }
            )
        return [
            sum(_similarity(_words(item), words, found, len(answers)) for words in right)
            / len(right)
            for item, right in zip(given, references, strict=True)
        ]

    def check(self, answers: Sequence[Sequence[str]]) -> None:
        if len({tuple(right) for right in answers}) < 2:
            raise ValueError(
                "cider: weighs words by how rare they are among the questions' answers, and all "
                f"{len(answers)} have the same "
                f"({[list(right) for right in answers[:1]]}); evaluate several captions together, "
                "or take anls"
            )


def _words(text: str) -> list[str]:
    straight = text.lower().replace("\u2019", "'")
    return _WORD.findall(_CONTRACTION.sub(r" \1 ", straight))


def _grams(words: Sequence[str], n: int) -> Counter[_Gram]:
    return Counter(tuple(words[start : start + n]) for start in range(len(words) - n + 1))


def _similarity(
    given: Sequence[str], answer: Sequence[str], found: Mapping[_Gram, int], questions: int
) -> float:
    penalty = math.exp(-((len(given) - len(answer)) ** 2) / (2 * _SIGMA**2))
    return (
        10
        * penalty
        * sum(_clipped_cosine(given, answer, n, found, questions) for n in range(1, _LONGEST + 1))
        / _LONGEST
    )


def _clipped_cosine(
    given: Sequence[str], answer: Sequence[str], n: int, found: Mapping[_Gram, int], questions: int
) -> float:
    first, second = (
        {
            gram: count * math.log(questions / max(1, found.get(gram, 0)))
            for gram, count in _grams(words, n).items()
        }
        for words in (given, answer)
    )
    product = sum(
        min(weight, second[gram]) * second[gram] for gram, weight in first.items() if gram in second
    )
    norms = math.sqrt(
        sum(weight**2 for weight in first.values()) * sum(weight**2 for weight in second.values())
    )
    return product / norms if norms else 0.0
