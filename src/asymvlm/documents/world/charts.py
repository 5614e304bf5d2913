"""Bar charts, upright and lying, with the value printed at the end of its bar."""

from __future__ import annotations

import numpy as np

from .canvas import LINE_GRID, Canvas, Style
from .page import Field, Page, draw_names, draw_values
from .small_print import small_print


def _bar_colours(rng: np.random.Generator, count: int) -> list[tuple[int, int, int]]:
    series = 1 if rng.random() < 0.5 else count  # one colour for all bars, or one each
    colours = np.broadcast_to(rng.integers(90, 200, (series, 3)), (count, 3))
    return [tuple(int(channel) for channel in colour) for colour in colours]  # type: ignore[misc]


def chart(rng: np.random.Generator) -> Page:
    """Four or five bars, lying charts up to seven; small print above and below."""
    upright = rng.random() < 0.5
    canvas = Canvas(Style.draw(rng))
    names = draw_names(rng, int(rng.integers(4, 6) if upright else rng.integers(4, 8)))
    values = draw_values(rng, len(names), three_digits=float(rng.choice([0.0, 0.0, 1.0])))
    colours = _bar_colours(rng, len(names))
    draw = _upright if upright else _lying
    fields = draw(canvas, rng, names, values, colours)
    boxes = [box for field in fields for box in (field.name_box, field.value_box)]
    low, high = min(box[1] for box in boxes), max(box[3] for box in boxes)
    small_print(canvas, rng, 3, [(0, low - LINE_GRID, canvas.size, high + LINE_GRID)])
    return Page("chart", canvas.finish(rng), tuple(fields), tuple(canvas.glyphs))


def _upright(
    canvas: Canvas,
    rng: np.random.Generator,
    names: list[str],
    values: list[int],
    colours: list[tuple[int, int, int]],
) -> list[Field]:
    size = canvas.size
    pitch = float(rng.uniform(39, (size - 8) / len(names) if len(names) == 5 else 46))
    left = float(rng.uniform(5, size - pitch * len(names) - 3))
    # The names' line; the bars stand on its upper edge.
    line = int(rng.integers(12, size // LINE_GRID))
    floor = float(line * LINE_GRID + canvas.style.shift[1])
    unit = float(rng.uniform(0.6, 1.0)) * (floor - 30) / max(values)
    canvas.line(left - 2, floor, left + pitch * len(names), floor)
    fields = []
    for index, (name, value) in enumerate(zip(names, values, strict=True)):
        centre = left + pitch * (index + 0.5)
        top = floor - value * unit
        canvas.rectangle((centre - 10, top, centre + 10, floor), fill=colours[index])
        name_box = canvas.text(centre, canvas.on_line(line), name, align="m")
        above = canvas.on_line(int((top - canvas.style.shift[1]) // LINE_GRID) - 1)
        value_box = canvas.text(centre, above, str(value), align="m")
        fields.append(Field(name, value, name_box, value_box))
    return fields


def _lying(
    canvas: Canvas,
    rng: np.random.Generator,
    names: list[str],
    values: list[int],
    colours: list[tuple[int, int, int]],
) -> list[Field]:
    size = canvas.size
    pitch = 2 * LINE_GRID
    left = float(rng.uniform(44, 60))
    top = float(rng.uniform(5, size - pitch * len(names) - 3))
    unit = float(rng.uniform(0.6, 1.0)) * (size - left - 38) / max(values)
    canvas.line(left, top - 2, left, top + pitch * len(names))
    fields = []
    for index, (name, value) in enumerate(zip(names, values, strict=True)):
        middle = top + pitch * (index + 0.5)
        end = left + value * unit
        canvas.rectangle((left, middle - 5, end, middle + 5), fill=colours[index])
        name_box = canvas.text(left - 9, middle - canvas.height / 2, name, align="r")
        fields.append(
            Field(
                name, value, name_box, canvas.text(end + 8, middle - canvas.height / 2, str(value))
            )
        )
    return fields
