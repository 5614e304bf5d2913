"""Pruning of vision tokens before or inside the LLM.

`prune` is the public context manager; `select` turns a method and a budget into kept indices,
`before_llm` and `inside_llm` carry it out. Imports backbone, checkpoint, engine, methods,
selectors, targets and typing.
"""

from .prune import prune
from .report import PruneReport

__all__ = ["PruneReport", "prune"]
