"""Intervals for differences between methods on the same questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Interval:
    """A difference in points (percent) with its 95 % interval."""

    difference: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.difference:+.1f} [{self.low:+.1f}, {self.high:+.1f}]"


def paired_difference(
    first: Sequence[float],
    second: Sequence[float],
    pages: Sequence[int],
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Mean of `first` minus mean of `second` in points, with a bootstrap interval over pages.

    Pages, not questions, are resampled (Efron and Tibshirani, 1993).

    Questions about one page are not independent, so whole pages are drawn with replacement.
    """
    if not len(first) == len(second) == len(pages) or len(first) == 0:
        raise ValueError(
            "bootstrap: needs as many values of each method as pages, and at least one"
        )
    difference = 100 * (np.asarray(first, float) - np.asarray(second, float))
    _, page = np.unique(np.asarray(pages), return_inverse=True)
    totals, counts = np.bincount(page, difference), np.bincount(page)
    draws = np.random.default_rng(seed).integers(0, len(totals), (resamples, len(totals)))
    means = totals[draws].sum(1) / counts[draws].sum(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(difference.mean()), float(low), float(high))
