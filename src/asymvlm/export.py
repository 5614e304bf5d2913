"""Make a scorer directory of a training checkpoint: `python -m asymvlm.export CHECKPOINT.ckpt DIRECTORY`."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import torch

from .card import model_card
from .checkpoint import save_scorer, scorer_from
from .errors import DataError
from .front_door import run

CONTENTS = "asymvlm"  # where a training checkpoint keeps the config of its scorer


def export_checkpoint(checkpoint: str | Path, directory: str | Path) -> Path:
    """Write `directory` from a training checkpoint. Raises DataError where that holds no scorer."""
    try:
        stored: dict[str, Any] = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError) as error:
        raise DataError(f"{checkpoint} cannot be read as a training checkpoint ({str(error).splitlines()[0]})") from error
    if CONTENTS not in stored:
        raise DataError(f"{checkpoint} holds no scorer; give a checkpoint that train.py wrote")
    config, state = stored[CONTENTS]["config"], stored["state_dict"]
    trained = scorer_from(config)
    parts = {"scorer.": "scorer.", "budget_head.": "budget."}
    trained.load_state_dict(
        {new + name.removeprefix(old): value for old, new in parts.items() for name, value in state.items() if name.startswith(old)}
    )
    about = stored[CONTENTS].get("adapter")
    adapter = None
    if about is not None:
        from .adapter import AdapterWeights

        adapter = AdapterWeights.stored(about, state)
    return save_scorer(trained, directory, model_card(config, adapter is not None), adapter)


def _main(arguments: list[str]) -> None:
    if len(arguments) != 2:
        raise ValueError("usage: python -m asymvlm.export CHECKPOINT.ckpt DIRECTORY")
    print(f"exported scorer: {export_checkpoint(arguments[0], arguments[1])}")


if __name__ == "__main__":
    sys.exit(run(_main, sys.argv[1:]))
