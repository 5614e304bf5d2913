"""Pages with questions, answers and evidence boxes: generated ones, and a folder of real ones, through one interface."""

from .sample import Sample, SkipReport, samples

__all__ = ["Sample", "SkipReport", "samples"]
