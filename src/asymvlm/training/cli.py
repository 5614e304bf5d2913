"""`python train.py [--config X] [--dotted.flag value]`."""

from __future__ import annotations

import os
import sys
from datetime import datetime
from pathlib import Path

import lightning as L
import torch
from jsonargparse import Namespace
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import WandbLogger

from ..errors import DataError
from ..front_door import run

DEFAULT_CONFIG = Path("configs/tiny.yaml")


class TrainingCLI(LightningCLI):
    """A LightningCLI for `fit` alone, with a path to resume from."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--ckpt_path",
            type=str | None,
            default=None,
            help='Checkpoint to resume from: a path, or "last" for the newest of this run.',
        )

    def before_instantiate_classes(self) -> None:
        """Name the CSV files' folder after this process: runs that start together would count up to the same number and share it."""
        loggers = self.config.trainer.logger
        for one in loggers if isinstance(loggers, list) else [loggers]:
            if isinstance(one, Namespace) and one.class_path.endswith(".CSVLogger") and one.init_args.version is None:
                one.init_args.version = f"{datetime.now():%Y%m%d_%H%M%S}-{os.getpid()}"


def main(arguments: list[str] | None = None) -> int:
    """Train; returns the exit code."""
    return run(_train, sys.argv[1:] if arguments is None else arguments)


def _train(arguments: list[str]) -> None:
    if not any(one == "--config" or one.startswith(("--config=", "-c")) for one in arguments):
        arguments = ["--config", str(DEFAULT_CONFIG), *arguments]
    sys.argv = [sys.argv[0], *arguments]  # where LightningCLI looks; it warns of arguments that come another way
    cli = TrainingCLI(
        L.LightningModule,
        L.LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        run=False,
        seed_everything_default=0,
        save_config_kwargs={"overwrite": True},
    )
    checkpoint: str | None = cli.config.ckpt_path
    if checkpoint is not None:
        _same_wandb_run(cli.trainer, checkpoint)
    cli.trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=checkpoint)


def _same_wandb_run(trainer: L.Trainer, checkpoint: str) -> None:
    """Let the logger go on in the run that the checkpoint was written by."""
    callback = trainer.checkpoint_callback
    path = Path(checkpoint)
    if checkpoint == "last" and isinstance(callback, ModelCheckpoint):
        path = Path(callback.dirpath or trainer.default_root_dir) / f"{callback.CHECKPOINT_NAME_LAST}{callback.FILE_EXTENSION}"
    if not path.is_file():
        raise DataError(f"ckpt_path: {path} does not exist; leave it out to start anew")
    run_id = torch.load(path, map_location="cpu", weights_only=True).get("wandb_id")
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger) and run_id:
            logger._wandb_init |= {"id": run_id, "resume": "allow"}
            logger._id = run_id
