"""A generated page: an image, its fields, and the questions on it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from ..sample import Box
from .canvas import PAGE_SIZE
from .words import NAMES


@dataclass(frozen=True)
class Field:
    """A number with its name (and, in a table, its column), and where each is printed."""

    name: str
    value: int
    name_box: Box
    value_box: Box
    column: str | None = None
    column_box: Box | None = None

    @property
    def centre(self) -> tuple[float, float]:
        """Centre of name and value together, in pixels."""
        x = (self.name_box[0] + self.name_box[2] + self.value_box[0] + self.value_box[2]) / 4
        y = (self.name_box[1] + self.name_box[3] + self.value_box[1] + self.value_box[3]) / 4
        return x, y


@dataclass(frozen=True)
class Page:
    """One generated page. `kind` is form, receipt, table or chart."""

    kind: str
    image: Image.Image
    fields: tuple[Field, ...]
    glyphs: tuple[tuple[str, Box], ...] = ()  # every printed character and its place
    size: int = PAGE_SIZE


@dataclass(frozen=True)
class Question:
    """A question with its answers (any is right) and evidence boxes (all are needed).

    `history` is what was said before: turns of (user, assistant).
    """

    text: str
    answers: tuple[str, ...]
    evidence_boxes: tuple[Box, ...]
    # What has to be found before the evidence is: labels, row and column headers.
    key_boxes: tuple[Box, ...]
    kind: str
    group: str  # questions that are reported together
    history: tuple[tuple[str, str], ...] = ()


def draw_names(rng: np.random.Generator, count: int) -> list[str]:
    """Draw `count` different names."""
    return [str(name) for name in rng.choice(NAMES, size=count, replace=False)]


def draw_values(rng: np.random.Generator, count: int, three_digits: float = 0.4) -> list[int]:
    """Draw `count` values of two or three digits; one is at least a fifth above all others."""
    large = rng.random(count) < three_digits
    values = np.where(large, rng.integers(100, 800, count), rng.integers(10, 80, count))
    top = int(values.argmax())
    rest = int(np.delete(values, top).max()) if count > 1 else 0
    ceiling = 99 if values[top] < 100 else 999
    values[top] = min(ceiling, max(int(values[top]), int(np.ceil(rest * rng.uniform(1.2, 1.5)))))
    return [int(value) for value in values]
