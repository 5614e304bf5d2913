"""What it takes to make the same result again."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import lightning as L
import torch
import transformers

from .. import __version__
from ..targets import Target


def commit() -> str | None:
    """The commit of the source tree, with "-dirty" where it has changes.

    None outside a checkout.
    """
    here = Path(__file__).parent
    try:
        name = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True
        )
        changes = subprocess.run(
            ["git", "status", "--porcelain"], cwd=here, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return name.stdout.strip() + ("-dirty" if changes.stdout.strip() else "")


def provenance(
    trainer: L.Trainer, teacher: dict[str, str], target: Target | None
) -> dict[str, Any]:
    """Write the `teacher`, `data` and `training` parts of a scorer's config.json.

    No times and no folders: equal runs, equal files.
    """
    logged = sorted(trainer.callback_metrics.items())
    metrics = {name: round(float(value), 6) for name, value in logged if name.startswith("val/")}
    data = trainer.datamodule  # type: ignore[attr-defined]
    versions = {
        "asymvlm": __version__,
        "torch": str(torch.__version__),
        "transformers": transformers.__version__,
    }
    return {
        "teacher": teacher,
        "data": {"fingerprints": dict(getattr(data, "fingerprints", {}))},
        "training": {
            "seed": torch.initial_seed(),
            "epochs": trainer.current_epoch + 1,
            "steps": trainer.global_step,
            "target": settings(target),
            "metrics": metrics,
            "commit": commit(),
            "versions": versions,
        },
    }


def settings(value: Any) -> Any:
    """Describe a target's class and settings as plain values."""
    if isinstance(value, Target):
        inner = {
            key: settings(attribute)
            for key, attribute in sorted(vars(value).items())
            if not key.startswith("_")
        }
        return {"class": type(value).__name__, **inner}
    return value
