"""Forms (fields scattered over the page) and receipts (one item a line, amounts right-aligned)."""

from __future__ import annotations

import numpy as np

from ..sample import Box
from .canvas import LINE_GRID, Canvas, Style
from .page import Field, Page, draw_names, draw_values
from .small_print import small_print

_GAP = 7.0  # pixels kept free around a field


def _overlaps(box: Box, others: list[Box]) -> bool:
    x0, y0, x1, y1 = box
    return any(
        x0 < b[2] + _GAP and b[0] < x1 + _GAP and y0 < b[3] + _GAP and b[1] < y1 + _GAP
        for b in others
    )


def form(rng: np.random.Generator, at_least: int = 8, at_most: int = 14) -> Page:
    """Fields at random places, more of them in one half.

    The value stands right of its name or below it.
    """
    style = Style.draw(rng)
    canvas = Canvas(style)
    size = canvas.size
    names = draw_names(rng, int(rng.integers(at_least, at_most + 1)))
    crowded = at_most > 20
    separator = str(rng.choice([":", "", " =", "."]))
    below = rng.random() < 0.25
    # A lean to one side makes "which half holds more" a question with an answer.
    lean = rng.uniform(0.15, 0.85, 2)
    taken = [] if crowded else small_print(canvas, rng, 2)
    fields: list[Field] = []
    for name, value in zip(names, draw_values(rng, len(names)), strict=True):
        label = name + separator
        label_width = canvas.width(label)
        value_width = canvas.width(str(value))
        height = canvas.height
        gap = float(rng.uniform(8, 15))
        width = max(label_width, value_width) if below else label_width + gap + value_width
        tall = height + LINE_GRID if below else height
        for attempt in range(60):
            halves = rng.random(2) < lean
            x = float(rng.uniform(4, size - width - 4))
            y = float(rng.uniform(6, size - tall - 8))
            right, bottom = x + width / 2 > size / 2, y + tall / 2 > size / 2
            # The lean gives way where the page is full.
            if (
                not crowded
                and attempt < 40
                and (right, bottom) != (bool(halves[0]), bool(halves[1]))
            ):
                continue
            if not _overlaps((x, y, x + width, y + tall), taken):
                break
        else:
            continue
        taken.append((x, y, x + width, y + tall))
        name_box = canvas.text(x, y, label)
        at = (x, y + LINE_GRID) if below else (x + label_width + gap, y)
        fields.append(Field(name, value, name_box, canvas.text(*at, str(value))))
    if rng.random() < 0.3:
        for field in fields:
            x0, y0, x1, y1 = np.array([field.name_box, field.value_box]).T
            canvas.rectangle((x0.min() - 3, y0.min() - 2, x1.max() + 3, y1.max() + 2))
    return Page("form", canvas.finish(rng), tuple(fields), tuple(canvas.glyphs))


def crowded_form(rng: np.random.Generator) -> Page:
    """A page full of fields: much to read at once, for training the tower."""
    return form(rng, 16, 26)


def receipt(rng: np.random.Generator) -> Page:
    """Seven to eleven lines, names at the left edge of a strip and amounts at its right edge.

    Small print above and below.
    """
    style = Style.draw(rng)
    canvas = Canvas(style)
    size = canvas.size
    names = draw_names(rng, int(rng.integers(7, 12)))
    values = draw_values(rng, len(names))
    left = float(rng.uniform(6, 60))
    right = float(rng.uniform(max(left + 100, 150), size - 6))
    pitch = LINE_GRID * (int(rng.integers(1, 3)) if len(names) < 8 else 1)
    top = float(rng.uniform(9, max(10, size - pitch * len(names) - 6)))
    leaders = rng.random() < 0.3
    fields = []
    for row, (name, value) in enumerate(zip(names, values, strict=True)):
        y = top + row * pitch
        name_box = canvas.text(left, y, name)
        value_box = canvas.text(right, y, str(value), align="r")
        if leaders:
            canvas.line(name_box[2] + 4, name_box[3] - 1, value_box[0] - 4, name_box[3] - 1)
        fields.append(Field(name, value, name_box, value_box))
    if rng.random() < 0.4:
        canvas.rectangle(
            (left - 6, fields[0].name_box[1] - 5, right + 5, fields[-1].name_box[3] + 3)
        )
    small_print(
        canvas, rng, 3, [box for field in fields for box in (field.name_box, field.value_box)]
    )
    return Page("receipt", canvas.finish(rng), tuple(fields), tuple(canvas.glyphs))
