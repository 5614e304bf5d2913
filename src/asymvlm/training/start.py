"""The exported scorer that a training goes on from."""

from __future__ import annotations

from collections.abc import Mapping

from ..checkpoint.scorer import TrainedScorer, load_scorer
from ..storage.weights_fingerprint import weights_fingerprint


def load_start(start: str, teacher: str, hidden_size: int) -> TrainedScorer:
    """Load the scorer in a directory or repository, if it fits the teacher.

    Raises ValueError for another hidden size, another teacher, and a scorer with an adapter.
    """
    trained = load_scorer(start)
    if trained.width != hidden_size:
        raise ValueError(
            f"model.start: the scorer of {start} is for a width of {trained.width}, {teacher} has "
            f"{hidden_size}"
        )
    if trained.adapter is not None:
        raise ValueError(
            f"model.start: {start} has an adapter, which would be lost; start from the scorer it "
            "was trained beside"
        )
    learned_from = trained.about.get("teacher", {})
    if are_different(learned_from, {"name": teacher, "weights": weights_fingerprint(teacher)}):
        raise ValueError(
            f"model.start: the scorer of {start} was trained on other weights "
            f"({learned_from['name']}) than those of {teacher}; train one on this teacher first"
        )
    return trained


def are_different(first: Mapping[str, str], second: Mapping[str, str]) -> bool:
    """Return whether two teachers are known to differ, by weights or by repository."""
    weights = first.get("weights", ""), second.get("weights", "")
    if all(weights):
        return weights[0] != weights[1]
    return not any(weights) and first.get("name", second["name"]) != second["name"]
