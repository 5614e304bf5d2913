"""`python eval.py [--config X] [--dotted.flag value]`."""

from __future__ import annotations

import sys
from pathlib import Path

from jsonargparse import ArgumentParser

from ..front_door import run
from .evaluate import evaluate

DEFAULT_CONFIG = Path("configs/eval/tiny.yaml")


def main(arguments: list[str] | None = None) -> int:
    """Evaluate; returns the exit code."""
    return run(evaluate_from, sys.argv[1:] if arguments is None else arguments)


def evaluate_from(arguments: list[str]) -> None:
    """Parse and evaluate; raises where `main` would print an error."""
    if not any(one == "--config" or one.startswith("--config=") for one in arguments):
        arguments = ["--config", str(DEFAULT_CONFIG), *arguments]
    parser = ArgumentParser(description="Evaluate pruning methods against the dense model.")
    parser.add_argument("--config", action="config", help="A YAML file with any of the options below.")
    parser.add_function_arguments(evaluate)
    config = parser.instantiate_classes(parser.parse_args(arguments))
    config.pop("config", None)
    evaluate(**config.as_dict())
