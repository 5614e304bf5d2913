"""Terms of the training loss. Each knows scores, targets and masks, and nothing of models."""

from .base import Objective, Prediction, Truth
from .budget import BudgetRegression, Sparsity
from .distillation import Distillation
from .ranking import Ranking

__all__ = ["BudgetRegression", "Distillation", "Objective", "Prediction", "Ranking", "Sparsity", "Truth"]
