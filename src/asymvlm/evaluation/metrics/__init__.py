"""How replies are judged, by the field's standard metrics. One metric, one file, one class."""

from __future__ import annotations

from .base import AnswerMetric, QuestionMetric

__all__ = ["AnswerMetric", "QuestionMetric", "answer_metrics"]


def answer_metrics() -> dict[str, type[AnswerMetric]]:
    """All metrics by the `kind` that configs name."""
    from ...discovery import discover

    return discover(__name__, AnswerMetric)
