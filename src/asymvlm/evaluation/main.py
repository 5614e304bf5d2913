"""`python eval.py [eviction] [--config X] [--dotted.flag value]`."""

from __future__ import annotations

from ..cli.command import parameters_of, run_command
from ..eviction import evictors
from ..methods import methods
from .evaluate import Evaluation, evaluate
from .evaluate_eviction import EvictionEvaluation

DEFAULT_CONFIG = "eval/tiny"
EVICTION_CONFIG = "eval/eviction"


def main(arguments: list[str] | None = None, owns_process: bool | None = None) -> int:
    """Evaluate; returns the exit code."""
    return run_command(evaluate_from, arguments, owns_process)


def evaluate_from(arguments: list[str]) -> None:
    """Parse and evaluate pruning methods, or after the word `eviction` policies.

    Raises where `main` would print an error.
    """
    if arguments[:1] == ["eviction"]:
        settings = parameters_of(
            EvictionEvaluation, arguments[1:], "eval eviction", EVICTION_CONFIG, (methods, evictors)
        )
        EvictionEvaluation(**settings).run()
    else:
        words = ("eviction",)
        settings = parameters_of(Evaluation, arguments, "eval", DEFAULT_CONFIG, (methods,), words)
        evaluate(**settings)
