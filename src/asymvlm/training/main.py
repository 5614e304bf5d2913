"""`python train.py [--config X] [--dotted.flag value]`."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import lightning as L
from jsonargparse import Namespace
from jsonargparse._deprecated import JsonargparseDeprecationWarning
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch.callbacks import ThroughputMonitor
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ..cli.command import PARSER_OPTIONS, USAGE_LINE, run_command
from ..cli.configs import find_config, with_configs
from ..cli.hints import Parameter, parameters
from ..cli.mistakes import Root, check_filled, explained
from ..cli.settings_tree import Group
from ..cli.signals import known_to_children, stop_behind
from ..export import read_checkpoint
from ..limits import check_at_least
from ..registry import import_all
from ..storage.writable import check_writable
from .callbacks import CheckedCallback
from .checkpoint_io import WholeFileCheckpointIO
from .data import PagesData
from .distill_module import ImportanceModule
from .gate_module import GateModule
from .lora_module import LoraModule
from .ranks import end_other_ranks, leave_signals_to_the_command
from .resuming import RunRecord, find_checkpoint
from .scorer_module import ScorerModule

# Configs name these in short, which takes that they are imported.
_NAMED = (ImportanceModule, GateModule, LoraModule, ThroughputMonitor)

DEFAULT_CONFIG = "tiny"


class TrainingCLI(LightningCLI):
    """A LightningCLI for `fit` alone, with a path to resume from."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--ckpt_path",
            type=str | None,
            default=None,
            help='Checkpoint to resume from: a path, or "last" for the newest of this run.',
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse; raises ValueError for what a configuration leaves open."""
        super().parse_arguments(parser, args)
        check_filled(self.config.as_dict())
        seed = self.config.seed_everything
        check_at_least(0, {"seed_everything": 0 if seed is None else int(seed)})

    def _add_instantiators(self) -> None:
        # Lightning's, with a way of jsonargparse's that is on its way out; nothing to act on here.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", JsonargparseDeprecationWarning)
            super()._add_instantiators()

    def before_instantiate_classes(self) -> None:
        """Name the CSV folder after this process, as runs that start together share a number."""
        loggers = self.config.trainer.logger
        for item in loggers if isinstance(loggers, list) else [loggers]:
            if (
                isinstance(item, Namespace)
                and item.class_path.endswith(".CSVLogger")
                and item.init_args.version is None
            ):
                item.init_args.version = f"{datetime.now():%Y%m%d_%H%M%S}-{os.getpid()}"

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Build the trainer; raises ValueError for settings that it refuses, or should."""
        try:
            trainer = super().instantiate_trainer(**kwargs)
        except MisconfigurationException as error:
            raise ValueError(f"trainer: {' '.join(str(error).split())}") from error
        _check_trainer(trainer)
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = WholeFileCheckpointIO()
        leave_signals_to_the_command(trainer)
        return trainer


def main(arguments: list[str] | None = None, owns_process: bool | None = None) -> int:
    """Train; returns the exit code."""
    return run_command(_train, arguments, owns_process)


def _train(arguments: list[str]) -> None:
    import_rooms()
    arguments = with_configs(arguments, DEFAULT_CONFIG)
    with _command_line(arguments), explained(root(), arguments):
        cli = TrainingCLI(
            L.LightningModule,
            L.LightningDataModule,
            # Lightning only asks for a callback made of parser and config.
            save_config_callback=RunRecord,  # type: ignore[arg-type]
            subclass_mode_model=True,
            subclass_mode_data=True,
            run=False,
            seed_everything_default=0,
            parser_kwargs={
                "default_config_files": [str(find_config("base"))],
                "prog": "asymvlm train",
                "description": "Train an importance scorer and export it.",
                "usage": USAGE_LINE,
                **PARSER_OPTIONS,
            },
        )
    if isinstance(cli.model, ScorerModule) and isinstance(cli.datamodule, PagesData):
        cli.datamodule.observer = cli.model.observer
    given: str | None = cli.config.ckpt_path
    checkpoint = None if given is None else find_checkpoint(given, cli.trainer)
    if checkpoint is not None:
        _same_wandb_run(cli.trainer, read_checkpoint(checkpoint).get("wandb_id"))
    _check_places(cli.trainer, cli.datamodule)
    for callback in cli.trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, CheckedCallback):
            callback.check(cli.trainer, cli.model, cli.datamodule)
    try:
        with known_to_children():
            cli.trainer.fit(
                cli.model, datamodule=cli.datamodule, ckpt_path=checkpoint, weights_only=True
            )
    except BaseException as error:
        stop = stop_behind(error)
        if stop is not None:
            stop.advice = _how_to_go_on(cli.trainer)
            end_other_ranks(cli.trainer)
        raise


def _check_trainer(trainer: L.Trainer) -> None:
    """Raise ValueError for what Lightning takes, and fails at or does nothing with."""
    for name, value in (("epochs", trainer.max_epochs), ("steps", trainer.max_steps)):
        if value == 0:
            raise ValueError(f"trainer.max_{name}: 0 trains nothing; give at least 1")
    check_at_least(1, {"trainer.accumulate_grad_batches": trainer.accumulate_grad_batches})
    check_at_least(0, {"trainer.gradient_clip_val": trainer.gradient_clip_val or 0})
    every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
    check_at_least(0, {"trainer.log_every_n_steps": every})


def _check_places(trainer: L.Trainer, data: L.LightningDataModule) -> None:
    """Raise DataError where something is to be written and cannot be."""
    if isinstance(data, PagesData):
        data.check_root()
    if trainer.fast_dev_run:  # type: ignore[attr-defined]
        return
    check_writable(Path(trainer.default_root_dir), "--trainer.default_root_dir")
    for logger in trainer.loggers:
        if logger.save_dir is not None:
            check_writable(Path(logger.save_dir), "save_dir of trainer.logger")


def import_rooms() -> None:
    """Import all classes that configs may name in short."""
    for room in ("scorers", "targets", "gates", "objectives"):
        import_all(f"asymvlm.{room}")


def root() -> Root:
    """The settings of a training, for errors in words."""
    hints: dict[str, Any] = {
        "seed_everything": bool | int,
        "trainer": Group("Lightning's Trainer", parameters(L.Trainer)),
        "model": L.LightningModule,
        "data": L.LightningDataModule,
        "ckpt_path": str | None,
        "optimizer": Callable[[Any], Optimizer],
        "lr_scheduler": Callable[[Any], LRScheduler],
    }
    settings = {name: Parameter(hint, name == "model") for name, hint in hints.items()}
    return Root("train", settings, files=(find_config("base"),))


@contextmanager
def _command_line(arguments: list[str]) -> Iterator[None]:
    """Put `arguments` where LightningCLI looks for them: it warns of others.

    Afterwards the process's own are back, with which Lightning starts further processes.
    """
    own = sys.argv
    sys.argv = [own[0], *arguments]
    try:
        yield
    finally:
        sys.argv = own


def _how_to_go_on(trainer: L.Trainer) -> str:
    newest = getattr(trainer.checkpoint_callback, "last_model_path", "")
    if not newest:
        return "no epoch is done yet; the same command starts again with the pages and targets made"
    return f"go on behind the last epoch with the same command and --ckpt_path {newest}"


def _same_wandb_run(trainer: L.Trainer, run_id: str | None) -> None:
    """Let the logger continue the run that wrote the checkpoint."""
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger) and run_id:
            logger._wandb_init |= {"id": run_id, "resume": "allow"}
            logger._id = run_id
