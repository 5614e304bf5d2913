"""Questions about a generated page, with exact answers and evidence boxes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..sample import Box
from . import words
from .page import Field, Page, Question, draw_names


def ask(
    page: Page, rng: np.random.Generator, localised: int = 3, holistic: int = 3
) -> list[Question]:
    """Ask up to `localised` look-ups and up to `holistic` questions, in random order."""
    look_ups = [_look_up(page, field, rng) for field in page.fields]
    wholes = [
        _presence(page, rng, True),
        _presence(page, rng, False),
        _largest(page, rng),
        *_halves(page, rng),
    ]
    chosen = some(look_ups, localised, rng) + some(wholes, holistic, rng)
    return some(chosen, len(chosen), rng)


def some(questions: Sequence[Question], count: int, rng: np.random.Generator) -> list[Question]:
    """Draw up to `count` questions, in random order."""
    return [questions[index] for index in rng.permutation(len(questions))[:count]]


def _phrase(templates: Sequence[str], rng: np.random.Generator, **slots: str) -> str:
    return str(rng.choice(words.FILLERS)) + str(rng.choice(templates)).format(**slots)


def distinct(*boxes: Box | None) -> tuple[Box, ...]:
    """Keep each question once."""
    return tuple(dict.fromkeys(box for box in boxes if box is not None))


def _look_up(page: Page, field: Field, rng: np.random.Generator) -> Question:
    if field.column is not None:
        kind = "table_cell"
        text = _phrase(words.CELL_QUESTIONS, rng, name=field.name, column=field.column)
    elif page.kind == "chart":
        kind, text = "chart_value", _phrase(words.BAR_QUESTIONS, rng, name=field.name)
    else:
        kind, text = f"{page.kind}_value", _phrase(words.VALUE_QUESTIONS, rng, name=field.name)
    keys = distinct(field.name_box, field.column_box)
    return Question(text, (str(field.value),), (field.value_box,), keys, kind, "localised")


def _presence(page: Page, rng: np.random.Generator, present: bool) -> Question:
    """Ask for a name that is or is not on the page; to deny it, every name must be seen."""
    shown = {field.name: field for field in page.fields}
    evidence: tuple[Box, ...]
    if present:
        name = str(rng.choice(list(shown)))
        evidence, answer = (shown[name].name_box,), "yes"
    else:
        name = next(name for name in draw_names(rng, len(shown) + 1) if name not in shown)
        evidence, answer = distinct(*(field.name_box for field in page.fields)), "no"
    text = _phrase(words.PRESENCE_QUESTIONS, rng, name=name)
    return Question(text, (answer,), evidence, (), "presence", "holistic")


def _largest(page: Page, rng: np.random.Generator) -> Question:
    fields, templates, column = page.fields, words.LARGEST_QUESTIONS, ""
    if page.kind == "table":
        column = str(rng.choice(sorted({field.column for field in fields if field.column})))
        fields = tuple(field for field in fields if field.column == column)
        templates = words.LARGEST_CELL_QUESTIONS
    winner = max(fields, key=lambda field: field.value)
    evidence = distinct(*(field.value_box for field in fields))
    keys = distinct(winner.name_box, winner.column_box)
    return Question(
        _phrase(templates, rng, column=column),
        (winner.name,),
        evidence,
        keys,
        "largest",
        "holistic",
    )


def _halves(page: Page, rng: np.random.Generator) -> list[Question]:
    """Compare the halves of a form that differ by two entries or more."""
    if page.kind != "form":
        return []
    middle = page.size / 2
    evidence = distinct(
        *(box for field in page.fields for box in (field.name_box, field.value_box))
    )
    questions = []
    for axis, names, templates in (
        (0, ("left", "right"), words.SIDE_QUESTIONS),
        (1, ("top", "bottom"), words.LEVEL_QUESTIONS),
    ):
        second = sum(field.centre[axis] > middle for field in page.fields)
        first = len(page.fields) - second
        if abs(first - second) >= 2:
            answer = names[int(second > first)]
            questions.append(
                Question(_phrase(templates, rng), (answer,), evidence, (), "half", "holistic")
            )
    return questions
