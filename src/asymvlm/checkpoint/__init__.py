"""The published scorer: one directory, safe tensors and a config.

Save, load, model card and adapter of the format in docs/checkpoint-format.md. Loading needs torch
and safetensors alone. Imports check, errors, scorers, storage and typing.
"""

from .scorer import TrainedScorer, load_scorer, save_scorer

__all__ = ["TrainedScorer", "load_scorer", "save_scorer"]
