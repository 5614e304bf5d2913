"""Callbacks: checkpoints, export, results table, memory and pictures."""

from __future__ import annotations

import resource
from datetime import datetime
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import WandbLogger
from PIL import Image

from ..checkpoint.scorer import check_target
from ..cli.command import parameters_of
from ..cli.configs import find_config
from ..distillation.batch import collate
from ..documents import samples
from ..errors import DataError
from ..evaluation.evaluate import Evaluation
from ..evaluation.questions import held_out, metric_named
from ..evaluation.report.pictures import page_panels
from ..export import export_checkpoint, read_checkpoint
from ..limits import check_at_least, check_share
from ..methods import methods
from ..scorers import scorers
from .resuming import CONFIG_FILE, of_another_run
from .scorer_module import ScorerModule


def _is_dry(trainer: L.Trainer) -> bool:
    """Return whether the trainer only tries a few batches (`fast_dev_run`) and saves nothing."""
    return bool(trainer.fast_dev_run)  # type: ignore[attr-defined]


class RunCheckpoint(ModelCheckpoint):
    """A ModelCheckpoint with `best.ckpt` and `last.ckpt` in the run's own folder.

    That is `trainer.default_root_dir`. Where a run starts anew in the folder of an earlier one,
    the earlier one's checkpoints are moved to a folder of their own in there.

    Args:
        monitor: Metric of which the smallest value is best.
    """

    def __init__(self, monitor: str = "val/loss") -> None:
        super().__init__(
            filename="best", monitor=monitor, save_last=True, enable_version_counter=False
        )

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self.dirpath = trainer.default_root_dir
        super().setup(trainer, pl_module, stage)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        folder = Path(trainer.default_root_dir)
        resumed = trainer.ckpt_path
        goes_on = resumed is not None and Path(resumed).resolve().parent == folder.resolve()
        if trainer.is_global_zero and not _is_dry(trainer) and not goes_on:
            self._keep_earlier_run(folder)

    def _keep_earlier_run(self, folder: Path) -> None:
        checkpoints = [f"{self.filename}.ckpt", f"{self.CHECKPOINT_NAME_LAST}.ckpt"]
        found = [folder / name for name in checkpoints if (folder / name).is_file()]
        if not found:
            return
        newest = datetime.fromtimestamp(max(file.stat().st_mtime for file in found))
        kept = folder / f"earlier-{newest:%Y%m%d-%H%M%S-%f}"
        kept.mkdir()
        for file in [*found, folder / CONFIG_FILE]:
            if file.is_file():
                file.rename(kept / file.name)
        print(f"checkpoints of an earlier run in {folder} are kept in {kept}")


class CheckedCallback(L.Callback):
    """A callback that refuses before any work what would fail at the end."""

    def check(
        self, trainer: L.Trainer, module: L.LightningModule, data: L.LightningDataModule
    ) -> None:
        """Raise ValueError or DataError for what would fail at the end; called before `fit`."""


class ExportScorer(CheckedCallback):
    """Exports the best checkpoint (else the last) at the end of `fit`, and as a wandb artifact.

    Args:
        directory: Where it goes: a new or empty folder, or one of a scorer, which is replaced. Left
            out, `scorer` in the run's folder.
    """

    def __init__(self, directory: str | None = None) -> None:
        self.directory = directory

    def target(self, trainer: L.Trainer) -> Path:
        return Path(self.directory or Path(trainer.default_root_dir) / "scorer")

    def check(
        self, trainer: L.Trainer, module: L.LightningModule, data: L.LightningDataModule
    ) -> None:
        """Raise ValueError or DataError for what would fail at the end; called before `fit`."""
        if trainer.checkpoint_callback is None:
            raise ValueError("trainer.callbacks: ExportScorer needs a ModelCheckpoint beside it")
        kind = getattr(getattr(module, "scorer", None), "kind", None)
        if kind is not None and kind not in scorers():
            raise ValueError(
                f"model.scorer: kind {kind!r} is none that a scorer directory can be loaded with "
                f"({', '.join(scorers())}); put the file of its class into asymvlm/scorers"
            )
        check_target(self.target(trainer))

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.is_global_zero or _is_dry(trainer):
            return
        callback = trainer.checkpoint_callback
        best = getattr(callback, "best_model_path", "") or getattr(callback, "last_model_path", "")
        if not best:
            resumed = f", or publish {trainer.ckpt_path} as it is with python -m asymvlm.export"
            raise DataError(
                "ExportScorer: this run has no checkpoint to publish, since it trained no epoch; "
                f"raise trainer.max_epochs{resumed if trainer.ckpt_path else ''}"
            )
        if of_another_run(read_checkpoint(best), trainer):
            raise DataError(
                f"ExportScorer: {best} is not this run's and is not published; train on until "
                "this run has a best checkpoint of its own, or publish that one with asymvlm.export"
            )
        target = export_checkpoint(best, self.target(trainer))
        print(f"exported scorer: {target}")
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                import wandb

                artifact = wandb.Artifact("scorer", type="model")
                artifact.add_dir(str(target))
                logger.experiment.log_artifact(artifact)


class ResultsTable(CheckedCallback):
    """Evaluates the exported scorer on held-out pages at the end of `fit` and prints the table.

    Args:
        config: Configuration of the evaluation, as for eval.py; the scorer, its teacher, the data
            and the folder of the results are this run's.
    """

    def __init__(self, config: str = "eval/quick") -> None:
        self.config = str(find_config(config))

    def check(
        self, trainer: L.Trainer, module: L.LightningModule, data: L.LightningDataModule
    ) -> None:
        """Raise ValueError or DataError for what would fail at the end; called before `fit`."""
        if self._export(trainer) is not None and not _is_dry(trainer):
            given = self._parameters(trainer, module, data)
            held_out(given["data"], given["split"], given["pages"], metric_named(given["metric"]))

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero and self._export(trainer) is not None and not _is_dry(trainer):
            data = trainer.datamodule  # type: ignore[attr-defined]
            Evaluation(**self._parameters(trainer, pl_module, data)).run()

    def _export(self, trainer: L.Trainer) -> Path | None:
        callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
        exports = [
            callback.target(trainer) for callback in callbacks if isinstance(callback, ExportScorer)
        ]
        return exports[0] if exports else None

    def _parameters(
        self, trainer: L.Trainer, module: L.LightningModule, data: Any
    ) -> dict[str, Any]:
        assert isinstance(module, ScorerModule)
        own = {"teacher": module.observer.name, "scorer": str(self._export(trainer))}
        own["output"] = str(Path(trainer.default_root_dir) / "results")
        given = parameters_of(Evaluation, ["--config", self.config], "eval", registries=(methods,))
        return given | own | {"data": getattr(data, "source", given["data"])}


class RememberRun(L.Callback):
    """Keeps the wandb run's id in the checkpoint, so that a resumed training continues it."""

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                checkpoint["wandb_id"] = logger.version


class PeakMemory(L.Callback):
    """Logs the process's peak memory after every epoch."""

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # ru_maxrss is in KiB on Linux.
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        pl_module.log("perf/peak_memory_gib", peak)


class WatchPages(L.Callback):
    """Logs the same few validation pages to wandb: target, prediction, kept tokens, keep ratios.

    Args:
        count: How many samples.
        keep: Share of tokens that the pictures show as kept.
        every_n_epochs: How often.
    """

    def __init__(self, count: int = 6, keep: float = 0.125, every_n_epochs: int = 5) -> None:
        check_at_least(1, {"count": count, "every_n_epochs": every_n_epochs})
        check_share({"keep": keep})
        self.count, self.keep, self.every_n_epochs = count, keep, every_n_epochs

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if (
            trainer.sanity_checking
            or not trainer.is_global_zero
            or trainer.current_epoch % self.every_n_epochs
        ):
            return
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                self._log(trainer, pl_module, logger)

    def _log(self, trainer: L.Trainer, pl_module: L.LightningModule, logger: WandbLogger) -> None:
        import torch
        import wandb

        assert isinstance(pl_module, ScorerModule)
        data = trainer.datamodule  # type: ignore[attr-defined]
        pages = data.pages("val")
        rows = np.linspace(0, len(pages) - 1, self.count).astype(int)
        found = [next(samples(pages, [row]), None) for row in rows]
        chosen = [sample for sample in found if sample is not None]
        observed = pl_module.observer.observe(chosen)
        tokens = collate(observed).tokens.to(pl_module.device)
        head = pl_module.budget_head
        with torch.no_grad():
            scores = pl_module.scorer(tokens)
            keep = scores.new_full((len(chosen),), torch.nan)
            if head is not None:
                keep = head(tokens, scores)
        names = ("question", "answer", "page", "target", "predicted", "kept", "keep")
        table = wandb.Table(columns=list(names))
        for index, (sample, item) in enumerate(zip(chosen, observed, strict=True)):
            own = scores[index, : len(item.grid)].cpu()
            panels = page_panels(sample.image, item.grid, item.importance, own, self.keep)
            pictures = [wandb.Image(Image.fromarray(panel)) for panel in panels]
            table.add_data(sample.question, sample.answers[0], *pictures, float(keep[index]))
        histogram = {} if head is None else {"val/keep_histogram": wandb.Histogram(keep.tolist())}
        logger.experiment.log({"val/pages": table, **histogram}, commit=False)
