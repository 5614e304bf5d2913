"""Pages with questions, answers and evidence boxes.

`sources` reads anybody's data, `world` generates pages, and both give the same rows (`Sample`).
Distillation, evaluation, training and the tiny teacher may import it; it imports storage and
command-line progress, and nothing of models.
"""

from .sample import Sample, samples
from .skip_report import SkipReport

__all__ = ["Sample", "SkipReport", "samples"]
