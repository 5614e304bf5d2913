"""Rewordings of questions.

A rewording is a pure function of (English question, severity 1..5, generator). What is asked about
stays: quoted words, digits, and the names of fields. In the generated world, `paraphrase` and
`distractor` use only words that its teacher was trained on; `typos` make words that its tokenizer
spells in pieces, nothing lost, which the teacher never saw in a question.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence, Set
from difflib import SequenceMatcher

import numpy as np

from ...documents.world import words

Rewording = Callable[[str, int, np.random.Generator], str]

_WORLD = (
    words.VALUE_QUESTIONS,
    words.CELL_QUESTIONS,
    words.BAR_QUESTIONS,
    words.PRESENCE_QUESTIONS,
    words.LARGEST_QUESTIONS,
    words.LARGEST_CELL_QUESTIONS,
    words.SIDE_QUESTIONS,
    words.LEVEL_QUESTIONS,
)
# "What is the man holding?" and "the wall made of" are no things that can be given: verbs and
# hanging prepositions are left alone.
_THING = re.compile(
    r"What (?:is|was|are|were) (?P<thing>the (?!.*\b(?:\w+ing|about|called|doing|like|made|used)\b)"
    r"(?!.*\b(?:at|by|for|from|in|near|of|on|to|under|with)\?).+)\?",
    re.IGNORECASE,
)
_THINGS = (
    "Give {thing}.",
    "Tell me {thing}.",
    "Read {thing}.",
    "Can you tell me {thing}?",
    "I would like to know {thing}.",
)
_FRAMES = (
    "Please answer: {question}",
    "Can you tell me: {question}",
    "I would like to know: {question}",
    "Look at the picture and answer: {question}",
    "Here is what I would like to know: {question}",
)
_ASIDES = (
    "Please look.",
    "Dear reader.",
    "Quick question.",
    "One more question.",
    "Please look at this page.",
)
_LOWER_OR_FIRST = r"(?:[a-z]|(?:\A|(?<=[.:!?] ))[A-Z])"  # other capitals are names
_QUOTED_OR_WORD = re.compile(
    rf"\"[^\"]*\"|“[^”]*”|(?<!\w)'[^']*'(?!\w)"
    rf"|(?P<word>(?<!\w){_LOWER_OR_FIRST}[a-z]{{3,}}(?!\w))"
)


def paraphrase(question: str, severity: int, rng: np.random.Generator) -> str:
    """Ask with another template; at higher severity fewer words stay in their order.

    Questions in exactly the generated world's words get the other templates of their kind, `What is
    the ...?` becomes a request, and of every other question only the introduction is new. Where
    there are fewer than five others, severities share one.
    """
    opening = next((item for item in words.FILLERS if item and question.startswith(item)), "")
    bare = question[len(opening) :]
    others = _others(bare)
    # Decides between equally distant ones.
    drawn = [others[index] for index in rng.permutation(len(others))]
    ranked = sorted(
        drawn, key=lambda other: -SequenceMatcher(None, bare.split(), other.split()).ratio()
    )
    return opening + ranked[math.ceil(len(ranked) * severity / 5) - 1]


def _others(question: str) -> list[str]:
    for templates in _WORLD:
        for template in templates:
            if match := re.fullmatch(_pattern(template), question):
                return [
                    other.format(**match.groupdict()) for other in templates if other != template
                ]
    if match := _THING.fullmatch(question):
        return [template.format(**match.groupdict()) for template in _THINGS]
    return [template.format(question=question) for template in _FRAMES]


def _pattern(template: str) -> str:
    pattern = re.escape(template)
    for slot, accepted in (("name", words.NAMES), ("column", words.COLUMNS)):
        pattern = pattern.replace(rf"\{{{slot}\}}", f"(?P<{slot}>{'|'.join(accepted)})")
    return pattern


def distractor(question: str, severity: int, rng: np.random.Generator) -> str:
    """Put as many asides as the severity before or behind the question."""
    asides = [_ASIDES[index] for index in rng.permutation(len(_ASIDES))]
    behind = rng.random(len(_ASIDES)) < 0.5
    chosen = list(zip(asides, behind, strict=True))[:severity]
    return " ".join([*_of(chosen, False), question, *_of(chosen, True)])


def _of(asides: Sequence[tuple[str, bool]], behind: bool) -> list[str]:
    return [aside for aside, place in asides if place == behind]


def typos(question: str, severity: int, rng: np.random.Generator) -> str:
    """Swap or drop letters in severity fifths of the words, at least one.

    Words are of four or more Latin letters; their first and last letter stay, as in Belinkov and
    Bisk, arXiv 1711.02173. Left as they are: quoted words, words with digits, names (capitals
    within a sentence), and the generated world's fields and answers. A question that has no other
    words comes back as it is.
    """
    spared = {*words.WORDS, *words.FIXED_ANSWERS}
    spans = [
        match.span("word")
        for match in _QUOTED_OR_WORD.finditer(question)
        if match["word"] and match["word"] not in spared
    ]
    order = rng.permutation(len(spans))
    slips = [_slip(question[start:end], spared, rng) for start, end in spans]
    # From the end, so that places stay right.
    for index in sorted(order[: math.ceil(len(spans) * severity / 5)], reverse=True):
        start, end = spans[index]
        question = question[:start] + slips[index] + question[end:]
    return question


def _slip(word: str, spared: Set[str], rng: np.random.Generator) -> str:
    swapped = {word[:i] + word[i + 1] + word[i] + word[i + 2 :] for i in range(1, len(word) - 2)}
    dropped = {word[:i] + word[i + 1 :] for i in range(1, len(word) - 1)}
    # `next` must not become the field `net`.
    return str(rng.choice(sorted((swapped | dropped) - {word} - spared)))


REWORDINGS: dict[str, Rewording] = {
    "paraphrase": paraphrase,
    "distractor": distractor,
    "typos": typos,
}
