"""Export a training checkpoint: `python -m asymvlm.export CHECKPOINT.ckpt DIRECTORY`."""

from __future__ import annotations

import sys

from .cli.door import enter

# Before the imports that take seconds: help and signals do not wait for them.
if __name__ == "__main__":
    sys.exit(enter("export"))

from pathlib import Path
from typing import Any

import torch

from .check import check_config, check_shapes, one_line, reason
from .checkpoint.model_card import model_card
from .checkpoint.scorer import TrainedScorer, check_target, save_scorer, scorer_from
from .cli.command import run_command
from .errors import DataError

# What the parts of a checkpoint raise that are not what they should be.
_DAMAGE = (LookupError, TypeError, AttributeError, RuntimeError, ValueError, ArithmeticError)
CONTENTS = "asymvlm"  # where a training checkpoint keeps the config of its scorer


def export_checkpoint(checkpoint: str | Path, directory: str | Path) -> Path:
    """Write `directory` from a training checkpoint; returns its absolute path.

    Raises ValueError for a directory that holds something else than a scorer, DataError where the
    checkpoint is damaged, holds no scorer, or one whose weights are no numbers.
    """
    check_target(directory)
    stored = read_checkpoint(checkpoint)
    if CONTENTS not in stored:
        raise DataError(f"{checkpoint} holds no scorer; give a checkpoint that train.py wrote")
    try:
        config, state = stored[CONTENTS]["config"], stored["state_dict"]
        trained = _trained(config, state)
        about = stored[CONTENTS].get("adapter")
        adapter = None
        if about is not None:
            from .checkpoint.adapter import AdapterWeights

            adapter = AdapterWeights.stored(about, state)
        card = model_card(config, adapter is not None)
    except DataError as fault:
        raise DataError(one_line(f"{checkpoint}: {fault}")) from None
    except _DAMAGE as error:
        raise DataError(
            f"{checkpoint} is damaged: its scorer does not fit ({reason(error)}); take another one"
        ) from error
    return save_scorer(trained, directory, card, adapter)


def _trained(config: dict[str, Any], state: dict[str, Any]) -> TrainedScorer:
    """Build the scorer; raises DataError where it is none by the schema."""
    check_config(config, "scorer config")
    parts = {"scorer.": "scorer.", "budget_head.": "budget."}
    weights = {
        new + name.removeprefix(old): value
        for old, new in parts.items()
        for name, value in state.items()
        if name.startswith(old)
    }
    check_shapes(config, {name: tuple(one.shape) for name, one in weights.items()}, "state_dict")
    trained = scorer_from(config)
    trained.load_state_dict(weights)
    return trained


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a training checkpoint on the CPU.

    Raises DataError, naming the file, where it is damaged or something else.
    """
    if not Path(path).is_file():
        raise DataError(
            f"{path} does not exist, or is no file; give a .ckpt file that train.py wrote"
        )
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # Whatever a reader makes of broken bytes; torch's words advise to read without its checks.
        raise DataError(
            f"{path} is damaged or no training checkpoint ({type(error).__name__}); take another "
            "one"
        ) from None
    if not isinstance(stored, dict) or not isinstance(stored.get("state_dict"), dict):
        raise DataError(f"{path} is no training checkpoint: it has no state_dict; take another one")
    return stored


def main(arguments: list[str] | None = None, owns_process: bool | None = None) -> int:
    """Export; returns the exit code."""
    return run_command(_export, arguments, owns_process)


def _export(arguments: list[str]) -> None:
    if len(arguments) != 2:
        raise ValueError("usage: asymvlm export CHECKPOINT.ckpt DIRECTORY")
    print(f"exported scorer: {export_checkpoint(arguments[0], arguments[1])}")
