"""Scorers: a score of each vision token for a text. Torch only.

One scorer, one file, one class; a new file here is found by its name. Imports limits, registry and
typing.
"""

from .base import Scorer, TokenBatch
from .budget import BudgetHead

__all__ = ["BudgetHead", "Scorer", "TokenBatch", "scorers"]


def scorers() -> dict[str, type[Scorer]]:
    """All scorers by the `kind` that configs and checkpoints name."""
    from ..registry import discover

    return discover(__name__, Scorer)
