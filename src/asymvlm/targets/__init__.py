"""Teacher signals.

A distribution over each sample's vision tokens, and how many of them are enough.

One target, one file, one class. Distillation, pruning (for oracles) and training may import it; it
imports backbone and selectors.
"""

from .attention import AttentionTarget
from .base import EncodedBatch, Target
from .budget import BudgetTarget
from .dense_answer import dense_answer_shares
from .evidence import EvidenceTarget
from .mixture import MixedTarget
from .outside_boxes import OutsideBoxes
from .shuffled import ShuffledTarget

__all__ = [
    "AttentionTarget",
    "BudgetTarget",
    "EncodedBatch",
    "EvidenceTarget",
    "MixedTarget",
    "OutsideBoxes",
    "ShuffledTarget",
    "Target",
    "dense_answer_shares",
]
