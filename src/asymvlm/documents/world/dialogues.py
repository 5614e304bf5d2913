"""Dialogues about a page: early facts, other talk, and questions on text, page or both."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from . import words
from .page import Field, Page, Question
from .questions import ask, distinct, some


@dataclass(frozen=True)
class Difficulty:
    """The number of turns and facts before the question."""

    facts: int  # stated at the start, one a person
    talk: int  # turns between the facts and the question


def dialogue(
    page: Page,
    rng: np.random.Generator,
    difficulty: Difficulty,
    text: int = 1,
    page_only: int = 1,
    both: int = 1,
) -> list[Question]:
    """Write questions that end one dialogue: on the text alone, the page alone, or both.

    Half of the facts (rounded up) are about numbers, the others about entries of the page. Every
    other turn of the talk is a question about the page with its answer, about up to half of the
    entries that no fact names; what is asked in the end was not told so. The answer for the text is
    the fact as it was stated; for both, what the page says follows. `Question.group` is "text",
    "page" or "both".
    """
    people = [
        str(person) for person in rng.choice(words.PEOPLE, size=difficulty.facts, replace=False)
    ]
    fields = [page.fields[index] for index in rng.permutation(len(page.fields))]
    split = (len(people) + 1) // 2
    named = dict(zip(people[split:], fields, strict=False))
    facts = {
        person: _phrase(words.NUMBER_FACTS, rng, person=person, value=rng.integers(100, 1000))
        for person in people[:split]
    }
    facts |= {
        person: _phrase(words.WISH_FACTS, rng, person=person, name=field.name)
        for person, field in named.items()
    }
    wished = {field.name for field in named.values()}
    free = [field for field in fields if field.name not in wished]
    told = tuple(free[: len(free) // 2])
    untold = replace(page, fields=tuple(field for field in page.fields if field not in told))
    history = _stated(list(facts.values()), rng) + _talk(
        replace(page, fields=told), rng, difficulty.talk
    )
    chosen = [
        *some([_recalled(person, fact, rng) for person, fact in facts.items()], text, rng),
        *(replace(item, kind="page", group="page") for item in ask(untold, rng, page_only, 0)),
        *some(
            [_looked_up(person, facts[person], field, rng) for person, field in named.items()],
            both,
            rng,
        ),
    ]
    return [replace(item, history=tuple(history)) for item in chosen]


def _phrase(templates: tuple[str, ...], rng: np.random.Generator, **slots: object) -> str:
    return str(rng.choice(templates)).format(**slots)


def _stated(facts: list[str], rng: np.random.Generator) -> list[tuple[str, str]]:
    """State one to three facts a turn, in random order."""
    waiting = [f"{facts[index]}." for index in rng.permutation(len(facts))]
    turns = []
    while waiting:
        count = int(rng.integers(1, 4))
        turns.append((" ".join(waiting[:count]), words.REPLIES[0]))
        waiting = waiting[count:]
    return turns


def _talk(page: Page, rng: np.random.Generator, count: int) -> list[tuple[str, str]]:
    turns = []
    for number in range(count):
        if number % 2 and page.fields:
            question = ask(page, rng, 1, 0)[0]
            turns.append((question.text, question.answers[0]))
        else:
            said = rng.choice(words.CHATTER, size=int(rng.integers(2, 5)), replace=False)
            turns.append((" ".join(said), words.REPLIES[1]))
    return turns


def _recalled(person: str, fact: str, rng: np.random.Generator) -> Question:
    return Question(
        _phrase(words.FACT_QUESTIONS, rng, person=person), (fact,), (), (), "fact", "text"
    )


def _looked_up(person: str, fact: str, field: Field, rng: np.random.Generator) -> Question:
    templates = (
        words.FACT_AND_VALUE_QUESTIONS if field.column is None else words.FACT_AND_CELL_QUESTIONS
    )
    text = _phrase(templates, rng, person=person, column=field.column)
    keys = distinct(field.name_box, field.column_box)
    return Question(
        text, (f"{fact} {field.value}",), (field.value_box,), keys, "fact_and_value", "both"
    )
