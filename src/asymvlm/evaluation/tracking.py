"""Results in Weights & Biases."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .report.results import Row


def log_to_wandb(project: str, rows: Sequence[Row], out: Path, about: dict[str, Any]) -> None:
    """Log the rows as a table and every picture, offline without an account."""
    import wandb

    columns: list[str | int] = list(rows[0].columns())
    with wandb.init(project=project, job_type="evaluation", config=about, dir=out) as run:
        run.log(
            {
                "results": wandb.Table(
                    columns=columns,
                    data=[[str(value) for value in row.columns().values()] for row in rows],
                )
            }
        )
        run.log(
            {picture.stem: wandb.Image(str(picture)) for picture in sorted(out.glob("[!.]*.png"))}
        )
