"""What has to be known to make the same result again."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import lightning as L
import torch
import transformers

from .. import __version__
from .data import PagesData, _plain
from .module import ImportanceModule


def commit() -> str | None:
    """The commit of the source tree, with "-dirty" where it has changes; None outside a checkout."""
    here = Path(__file__).parent
    try:
        name = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True)
        changes = subprocess.run(["git", "status", "--porcelain"], cwd=here, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return name.stdout.strip() + ("-dirty" if changes.stdout.strip() else "")


def provenance(trainer: L.Trainer, module: ImportanceModule, data: PagesData) -> dict[str, Any]:
    """The `teacher`, `data` and `training` parts of a checkpoint's config.json. No times and no paths, so that equal runs are equal files."""
    model = module.teacher.model
    metrics = {name: round(float(value), 6) for name, value in sorted(trainer.callback_metrics.items()) if name.startswith("val/")}
    return {
        "teacher": {
            "name": module.teacher_path,
            "class": type(model).__name__,
            "revision": getattr(model.config, "_commit_hash", None),
        },
        "data": {"fingerprints": data.fingerprints},
        "training": {
            "seed": torch.initial_seed(),
            "epochs": trainer.current_epoch,
            "steps": trainer.global_step,
            "target": _plain(module.target),
            "metrics": metrics,
            "commit": commit(),
            "versions": {"asymvlm": __version__, "torch": torch.__version__, "transformers": transformers.__version__},
        },
    }
