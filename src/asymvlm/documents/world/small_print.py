"""Text that no question is about."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..sample import Box
from .canvas import LINE_GRID, PITCH, Canvas

# Disjoint from the names and columns that questions are about.
SMALL_PRINT: tuple[str, ...] = (
    "page", "date", "from", "with", "thank", "you", "copy", "please", "keep", "this", "shop",
    "open", "daily", "ref", "all", "your",
    "new", "order", "street", "city", "phone", "mail", "terms", "apply", "visit", "again",
)  # fmt: skip


def small_print(
    canvas: Canvas, rng: np.random.Generator, at_most: int, occupied: Sequence[Box] = ()
) -> list[Box]:
    """Print up to `at_most` lines of words clear of all `occupied` boxes; returns their boxes."""
    free = [
        line
        for line in range(canvas.size // LINE_GRID)
        if all(
            box[3] < line * LINE_GRID - 1 or box[1] > (line + 1) * LINE_GRID + 1 for box in occupied
        )
    ]
    count = min(len(free), int(rng.integers(0, at_most + 1)))
    return [_line(canvas, rng, int(line)) for line in rng.permutation(free)[:count]]


def _line(canvas: Canvas, rng: np.random.Generator, line: int) -> Box:
    room = int(rng.integers(8, canvas.size // PITCH - 2))  # characters
    words: list[str] = []
    while len(" ".join(words)) + 7 <= room:
        words.append(str(rng.choice(SMALL_PRINT)))
    text = " ".join(words) or "page"
    x = float(rng.uniform(4, max(5.0, canvas.size - canvas.width(text) - 4)))
    return canvas.text(x, canvas.on_line(line), text)
