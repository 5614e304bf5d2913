"""Teacher signals: distributions over vision tokens, and the number that is enough.

One target, one file, one class. Imports backbone, engine, limits, selectors and typing.
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
