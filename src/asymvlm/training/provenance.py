"""The parts of a scorer's config.json that say how to train it again."""

from __future__ import annotations

import math
from typing import Any

import lightning as L
import torch
import transformers

from .. import __version__
from ..targets import Target
from .own_commit import own_commit


def provenance(
    trainer: L.Trainer, teacher: dict[str, str], target: Target | None
) -> dict[str, Any]:
    """Write the `teacher`, `data` and `training` parts of a scorer's config.json.

    No times and no folders: equal runs, equal files.
    """
    logged = sorted(trainer.callback_metrics.items())
    metrics = {name: _finite(float(value)) for name, value in logged if name.startswith("val/")}
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
            "commit": own_commit(),
            "versions": versions,
        },
    }


def _finite(value: float) -> float | None:
    """Round a metric; None where it is no number, which JSON has not."""
    return round(value, 6) if math.isfinite(value) else None


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
