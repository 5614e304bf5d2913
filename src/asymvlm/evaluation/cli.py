"""`python eval.py [--config X] [--dotted.flag value]`."""

from __future__ import annotations

import sys
from pathlib import Path

from ..front_door import call, run
from .evaluate import evaluate

DEFAULT_CONFIG = Path("configs/eval/tiny.yaml")


def main(arguments: list[str] | None = None) -> int:
    """Evaluate; returns the exit code."""
    return run(evaluate_from, sys.argv[1:] if arguments is None else arguments)


def evaluate_from(arguments: list[str]) -> None:
    """Parse and evaluate; raises where `main` would print an error."""
    call(evaluate, arguments, DEFAULT_CONFIG)
