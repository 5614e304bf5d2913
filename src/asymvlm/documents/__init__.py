"""Pages with questions, answers and evidence boxes.

`sources` reads anybody's data, `world` generates pages, and both give the same rows (`Sample`).
Knows nothing of models. Imports cli, errors, limits, storage and typing.
"""

from .sample import Sample, samples
from .skip_report import SkipReport

__all__ = ["Sample", "SkipReport", "samples"]
