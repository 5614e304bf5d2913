"""What it takes to make the same result again."""

from __future__ import annotations

import math
import os
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import lightning as L
import torch
import transformers

from .. import __version__
from ..targets import Target


def commit() -> str | None:
    """The commit of asymvlm's own checkout, with "-dirty" where it has changes.

    None for a copy that is installed, or lies in somebody else's repository, whose commits say
    nothing of it.
    """
    here = Path(__file__).resolve()
    try:
        root = Path(_git(here.parent, "rev-parse", "--show-toplevel"))
        _git(here.parent, "ls-files", "--error-unmatch", "--", here.name)
        about = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
        place = root.resolve() / "src/asymvlm"
        if about.get("project", {}).get("name") != "asymvlm" or place != here.parents[1]:
            return None
        changes = _git(root, "status", "--porcelain")
        return _git(root, "rev-parse", "HEAD") + ("-dirty" if changes else "")
    except (OSError, ValueError, AttributeError, subprocess.CalledProcessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    # A hook's environment names the repository that it runs for.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    done = subprocess.run(
        ["git", *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


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
            "commit": commit(),
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
