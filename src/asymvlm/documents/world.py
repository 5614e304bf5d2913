"""Pages by number: the same seed, split and index always give the same page."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .charts import chart
from .forms import form, receipt
from .page import Page, Question
from .questions import ask
from .tables import table

SPLITS: tuple[str, ...] = ("train", "val", "test", "teacher")
LAYOUTS: tuple[Callable[[np.random.Generator], Page], ...] = (form, receipt, table, chart)


def generate(seed: int, split: str, index: int, localised: int = 3, holistic: int = 3) -> tuple[Page, list[Question]]:
    """Page `index` of a split and its questions.

    Seeds are drawn from (seed, split, index) together, so that splits share no page whatever their length.
    """
    if split not in SPLITS:
        raise ValueError(f"split: {split!r} is not one of {', '.join(SPLITS)}")
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    page = LAYOUTS[index % len(LAYOUTS)](rng)
    return page, ask(page, rng, localised, holistic)
