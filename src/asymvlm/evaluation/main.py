"""`python eval.py [eviction] [--config X] [--dotted.flag value]`."""

from __future__ import annotations

from pathlib import Path

from ..cli.command import call, run
from .evaluate import evaluate
from .evaluate_eviction import evict_table

DEFAULT_CONFIG = Path("configs/eval/tiny.yaml")
EVICTION_CONFIG = Path("configs/eval/eviction.yaml")


def main(arguments: list[str] | None = None) -> int:
    """Evaluate; returns the exit code."""
    return run(evaluate_from, arguments)


def evaluate_from(arguments: list[str]) -> None:
    """Parse and evaluate: pruning methods, or after the word `eviction` what leaves the cache. Raises where `main` would print an error."""
    if arguments[:1] == ["eviction"]:
        call(evict_table, arguments[1:], EVICTION_CONFIG)
    else:
        call(evaluate, arguments, DEFAULT_CONFIG)
