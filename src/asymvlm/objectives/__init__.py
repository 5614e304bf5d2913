"""Terms of the training loss. Each knows scores, targets and masks, and nothing of models."""

from .answers import AnswerCrossEntropy, AnswerDivergence
from .base import Objective, Prediction, Truth
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
    "Objective",
    "Prediction",
    "Ranking",
    "Sparsity",
    "Truth",
]
