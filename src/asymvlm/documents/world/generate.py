"""Pages by number: seed, split and index determine a page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from .charts import chart
from .dialogues import Difficulty, dialogue
from .forms import form, receipt
from .page import Page, Question
from .questions import ask
from .tables import table

SPLITS: tuple[str, ...] = ("train", "val", "test", "teacher")
LAYOUTS: tuple[Callable[[np.random.Generator], Page], ...] = (form, receipt, table, chart)


DIFFICULTIES: tuple[Difficulty, ...] = (
    Difficulty(4, 2),
    Difficulty(4, 6),
    Difficulty(8, 2),
    Difficulty(8, 6),
)


def generate(
    seed: int, split: str, index: int, localised: int = 3, holistic: int = 3
) -> tuple[Page, list[Question]]:
    """Generate page `index` of a split and its questions.

    Seeds are drawn from (seed, split, index) together, so that splits share no page whatever their
    length.
    """
    page, rng = _page(seed, split, index)
    return page, ask(page, rng, localised, holistic)


def generate_dialogue(seed: int, split: str, index: int) -> tuple[Page, list[Question]]:
    """Generate page `index` of a split, and three questions that end a dialogue about it.

    Their kind is how much was said before: facts and turns of talk, from 4 and 2 to 8 and 6.
    """
    page, rng = _page(seed, split, index)
    difficulty = DIFFICULTIES[index // len(LAYOUTS) % len(DIFFICULTIES)]
    kind = f"{difficulty.facts} facts, {difficulty.talk} turns"
    return page, [replace(question, kind=kind) for question in dialogue(page, rng, difficulty)]


def _page(seed: int, split: str, index: int) -> tuple[Page, np.random.Generator]:
    if split not in SPLITS:
        raise ValueError(f"split: {split!r} is not one of {', '.join(SPLITS)}")
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    return LAYOUTS[index % len(LAYOUTS)](rng), rng
