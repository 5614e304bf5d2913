"""The field's standard metrics of answers. One metric, one file, one class."""

from __future__ import annotations

from .base import AnswerMetric, QuestionMetric

__all__ = ["AnswerMetric", "QuestionMetric", "answer_metrics"]


def answer_metrics() -> dict[str, type[AnswerMetric]]:
    """List all metrics by the `kind` that configs name."""
    from ...registry import discover

    return discover(__name__, AnswerMetric)
