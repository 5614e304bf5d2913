"""The trained scorer that an evaluation's settings name."""

from __future__ import annotations

from pathlib import Path

from ..checkpoint.scorer import TrainedScorer, load_scorer
from ..errors import DataError


def named_scorer(path: str) -> TrainedScorer:
    """Load the scorer that the setting `scorer` names.

    Raises DataError that names the setting and, where nothing is there, how to come by one.
    """
    try:
        return load_scorer(path)
    except DataError as error:
        hint = ""
        if not Path(path).exists():
            hint = "; train it first (asymvlm train), or leave it out with --scorer null"
        raise DataError(f"scorer: {error}{hint}") from error
