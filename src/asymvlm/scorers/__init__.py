"""Scorers: how much each vision token matters for this text. Torch only."""

from .base import Scorer, TokenBatch
from .budget import BudgetHead

__all__ = ["BudgetHead", "Scorer", "TokenBatch", "scorers"]


def scorers() -> dict[str, type[Scorer]]:
    """All scorers by the `kind` that configs and checkpoints name."""
    from ..discovery import discover

    return discover(__name__, Scorer)
