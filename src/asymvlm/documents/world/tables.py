"""Tables: a value is found by its row and its column."""

from __future__ import annotations

import numpy as np

from .canvas import LINE_GRID, Canvas, Style
from .page import Field, Page, draw_names, draw_values
from .small_print import small_print
from .words import COLUMNS


def table(rng: np.random.Generator) -> Page:
    """Four to seven rows by two or three columns, with or without rules.

    Small print above and below.
    """
    style = Style.draw(rng)
    canvas = Canvas(style)
    size = canvas.size
    names = draw_names(rng, int(rng.integers(4, 8)))
    columns = [
        str(name) for name in rng.choice(COLUMNS, size=int(rng.integers(2, 4)), replace=False)
    ]
    width = float(rng.uniform(46, 52))
    pitch = LINE_GRID * (int(rng.integers(1, 3)) if len(names) < 6 else 1)
    left = float(rng.uniform(5, size - width * (len(columns) + 1) - 3))
    top = float(rng.uniform(5, size - pitch * (len(names) + 1) - 3))
    rules = rng.random()

    xs = [left + width * (index + 1) for index in range(len(columns))]
    column_boxes = [canvas.text(x, top, column) for x, column in zip(xs, columns, strict=True)]
    # One clear maximum per column.
    grid = np.array([draw_values(rng, len(names)) for _ in columns]).T
    fields = []
    for row, name in enumerate(names):
        y = top + pitch * (row + 1)
        name_box = canvas.text(left, y, name)
        for index, column in enumerate(columns):
            value = int(grid[row, index])
            value_box = canvas.text(xs[index], y, str(value))
            fields.append(Field(name, value, name_box, value_box, column, column_boxes[index]))
        if rules < 0.6:
            canvas.line(left - 2, name_box[3] + 1, xs[-1] + width - 4, name_box[3] + 1)
    if rules < 0.3:
        for x in xs:
            canvas.line(x - 4, top - 3, x - 4, top + pitch * (len(names) + 1) - 4)
    small_print(canvas, rng, 3, [(0, top - LINE_GRID, size, top + pitch * (len(names) + 1))])
    return Page("table", canvas.finish(rng), tuple(fields), tuple(canvas.glyphs))
