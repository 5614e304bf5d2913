"""The learning-rate schedule of all trainings."""

from __future__ import annotations

import math


def warm_up_cosine(step: int, steps: int, warm_up: int, floor: float = 0.05) -> float:
    """Factor on the peak rate: a linear warm-up, then a cosine down to `floor` at `steps`."""
    if step < warm_up:
        return (step + 1) / warm_up
    share = min(1.0, (step - warm_up) / max(1, steps - warm_up))
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * share))
