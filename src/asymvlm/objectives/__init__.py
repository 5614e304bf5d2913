"""Terms of the training loss. One term, one file, one class.

Each knows scores, targets and masks, and nothing of models. Imports gates, limits and typing.
"""

from .answers import AnswerCrossEntropy, AnswerDivergence
from .base import Labels, Objective, Prediction, check_objectives, needs
from .budget import BudgetRegression, Sparsity
from .distillation import Distillation
from .distraction import Distraction
from .hardening import Hardening
from .ranking import Ranking

__all__ = [
    "AnswerCrossEntropy",
    "AnswerDivergence",
    "BudgetRegression",
    "Distillation",
    "Distraction",
    "Hardening",
    "Labels",
    "Objective",
    "Prediction",
    "Ranking",
    "Sparsity",
    "check_objectives",
    "needs",
]
