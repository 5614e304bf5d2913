"""`python train.py [--config X] [--dotted.flag value]`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from ..front_door import run

DEFAULT_CONFIG = Path("configs/tiny.yaml")


class TrainingCLI(LightningCLI):
    """A LightningCLI for `fit` alone, with a path to resume from."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--ckpt_path", type=str | None, default=None, help='Checkpoint to resume from: a path, or "last" for the newest of this run.'
        )


def main(arguments: list[str] | None = None) -> int:
    """Train; returns the exit code."""
    return run(_train, sys.argv[1:] if arguments is None else arguments)


def _train(arguments: list[str]) -> None:
    if not any(one == "--config" or one.startswith(("--config=", "-c")) for one in arguments):
        arguments = ["--config", str(DEFAULT_CONFIG), *arguments]
    cli = TrainingCLI(
        L.LightningModule,
        L.LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        run=False,
        args=arguments,
        seed_everything_default=0,
        save_config_kwargs={"overwrite": True},
    )
    checkpoint: Any = cli.config.ckpt_path
    cli.trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=checkpoint)
