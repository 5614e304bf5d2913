"""Drop the vision tokens that a question does not need, before a frozen VLM's LLM reads them.

Nothing heavy is imported until it is used: `load_scorer` needs torch and safetensors, `prune`
transformers besides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .checkpoint import TrainedScorer, load_scorer
    from .eviction import Evictor, evict, evictors
    from .methods import Method, Tokens, methods
    from .pruning.pipeline import pruned_pipeline
    from .pruning.prune import PruneReport, prune

__version__ = "0.1.0"
__all__ = [
    "Evictor", "Method", "PruneReport", "Tokens", "TrainedScorer", "evict", "evictors",
    "load_scorer", "methods", "prune",
    "pruned_pipeline",
]  # fmt: skip

_HOMES = {
    "Evictor": "eviction", "evict": "eviction", "evictors": "eviction",
    "Method": "methods", "PruneReport": "pruning", "Tokens": "methods",
    "TrainedScorer": "checkpoint",
    "load_scorer": "checkpoint", "methods": "methods", "prune": "pruning",
    "pruned_pipeline": "pruning.pipeline",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'asymvlm' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
