"""What happens around the loop: export, pictures, throughput, and how a killed process reports."""

from __future__ import annotations

import resource
import time
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
from lightning.pytorch.loggers import WandbLogger
from PIL import Image

from ..checkpoint import save_scorer
from ..documents import samples
from ..evaluation.pictures import page_panels
from .batch import collate
from .card import model_card
from .data import PagesData
from .module import ImportanceModule
from .provenance import provenance


class ExportScorer(L.Callback):
    """Writes the scorer directory at the end of `fit`, and as a wandb artifact.

    Args:
        directory: Where it goes; an existing one is replaced as a whole.
    """

    def __init__(self, directory: str = "checkpoints/tiny/scorer") -> None:
        self.directory = Path(directory)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, ImportanceModule)
        data = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, PagesData)
        if not trainer.is_global_zero:
            return
        about = provenance(trainer, pl_module, data)
        trained = pl_module.trained(pl_module.teacher.prompter.masked_ids, about)
        target = save_scorer(trained, self.directory, model_card(trained.config()))
        print(f"exported scorer: {target}")
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                import wandb

                artifact = wandb.Artifact("scorer", type="model", metadata=about)
                artifact.add_dir(str(target))
                logger.experiment.log_artifact(artifact)


class Throughput(L.Callback):
    """Logs samples per second and the process's peak memory."""

    def __init__(self) -> None:
        self._since = 0.0
        self._samples = 0

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._since, self._samples = time.perf_counter(), 0

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, index: int) -> None:
        self._samples += len(batch) * trainer.world_size

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        seconds = max(time.perf_counter() - self._since, 1e-9)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # GiB; ru_maxrss is in KiB on Linux
        pl_module.log_dict({"perf/samples_per_s": self._samples / seconds, "perf/peak_memory_gib": peak})


class WatchPages(L.Callback):
    """Logs to wandb, for the same few validation samples every time: page, target, prediction, kept tokens; and a histogram of keep ratios.

    Args:
        count: How many samples.
        keep: Share of tokens that the pictures show as kept.
        every_n_epochs: How often.
    """

    def __init__(self, count: int = 6, keep: float = 0.125, every_n_epochs: int = 5) -> None:
        self.count, self.keep, self.every_n_epochs = count, keep, every_n_epochs

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.sanity_checking or not trainer.is_global_zero or trainer.current_epoch % self.every_n_epochs:
            return
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                self._log(trainer, pl_module, logger)

    def _log(self, trainer: L.Trainer, pl_module: L.LightningModule, logger: WandbLogger) -> None:
        import torch
        import wandb

        assert isinstance(pl_module, ImportanceModule)
        data = trainer.datamodule  # type: ignore[attr-defined]
        pages = data.pages("val")
        chosen = [next(samples(pages, [row])) for row in np.linspace(0, len(pages) - 1, self.count).astype(int)]
        observed = pl_module.teacher.observe(chosen, pl_module.target)
        batch = collate(observed)
        batch.tokens = batch.tokens.to(pl_module.device)
        with torch.no_grad():
            scores = pl_module.scorer(batch.tokens)
            keep = pl_module.budget_head(batch.tokens, scores)
        table = wandb.Table(columns=["question", "answer", "page", "target", "predicted", "kept", "keep"])
        for index, (sample, one) in enumerate(zip(chosen, observed, strict=True)):
            panels = page_panels(sample.image, one.grid, one.relevance, scores[index, : len(one.grid)].cpu(), self.keep)
            pictures = [wandb.Image(Image.fromarray(panel)) for panel in panels]
            table.add_data(sample.question, sample.answers[0], *pictures, float(keep[index]))
        logger.experiment.log({"val/pages": table, "val/keep_histogram": wandb.Histogram(keep.tolist())}, commit=False)
