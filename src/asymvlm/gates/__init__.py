"""Gates: a choice of k tokens that gradients pass through. Torch only.

One gate, one file, one class. Imports selectors and typing.
"""

from .base import Gate, at_least_one, hard_choice, threshold
from .soft_top_k import SoftTopK
from .straight_through import StraightThrough

__all__ = ["Gate", "SoftTopK", "StraightThrough", "at_least_one", "hard_choice", "threshold"]
