"""From pages to training batches, through a cache of targets or the live teacher."""

from __future__ import annotations

import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import datasets
import lightning as L
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from ..distillation.batch import collate
from ..distillation.observer import Observer
from ..distillation.sample import DistillationSample
from ..documents import SkipReport
from ..documents.sources.source import DataSource, as_data_flags
from ..documents.world.generated import fingerprint
from ..errors import DataError
from ..limits import check_at_least
from ..storage.cached_dataset import build_once
from ..storage.fingerprint import key_of
from .observed_samples import CachedSamples, LiveSamples, collate_live, observe_all
from .settings import as_model_flags
from .shared_memory import check_shared_memory


class PagesData(L.LightningDataModule):
    """Pages of the generated world (`path` left out) or the user's own.

    Args:
        train_pages: Generated pages to train on.
        val_pages: Generated pages to validate on.
        batch_size: Samples per step and process.
        cache: True asks the teacher once and keeps its answers on disk; False asks it at every
            step.
        teacher_batch_size: Samples per forward pass of the teacher while the cache is written.
        num_workers: Loader processes.
        source: Where pages come from: what `documents.source.DataSource` takes.
    """

    def __init__(
        self,
        train_pages: int = 1500,
        val_pages: int = 160,
        batch_size: int = 64,
        cache: bool = True,
        teacher_batch_size: int = 32,
        num_workers: int = 0,
        **source: Any,
    ) -> None:
        super().__init__()
        check_at_least(1, {"data.train_pages": train_pages, "data.val_pages": val_pages})
        check_at_least(1, {"data.batch_size": batch_size})
        check_at_least(1, {"data.teacher_batch_size": teacher_batch_size})
        check_at_least(0, {"data.num_workers": num_workers})
        with as_data_flags():
            self.source = DataSource(**source)
            self.source.check()
        self.sizes = {"train": train_pages, "val": val_pages}
        self.batch_size, self.cache, self.teacher_batch_size = batch_size, cache, teacher_batch_size
        self.num_workers = num_workers
        # The teacher and what it is asked; the module that is trained brings it.
        self.observer: Observer | None = None
        self.fingerprints: dict[str, str] = {}
        self.skipped: dict[str, SkipReport] = {}
        self._pages: dict[str, datasets.Dataset] = {}
        self._observed: dict[str, Dataset] = {}

    def check_root(self) -> None:
        """Raise DataError where pages have to be drawn and nothing can be written."""
        with as_data_flags():
            self.source.check_root()

    def pages(self, split: str) -> datasets.Dataset:
        """Return the pages of a split and note their fingerprint."""
        if split not in self._pages:
            with as_data_flags():
                pages, self.skipped[split] = self.source.pages(split, self._page_count(split))
            self._say_skipped(split)
            self._pages[split] = pages
            self.fingerprints[split] = fingerprint(pages)
        return self._pages[split]

    def _say_skipped(self, split: str) -> None:
        for line in self.skipped[split].lines():
            print(f"data.path {split}: {line}")

    def _note_skipped(self, split: str, found: SkipReport) -> None:
        """Take over what could not be decoded, and name what is new."""
        known = self.skipped[split]
        new = [item for item in found.skipped if item not in known.skipped]
        for item in new:
            known.skip(*item)
            known.used -= 1
        for line in SkipReport(new, known.used).lines():
            print(f"data.path {split}: {line}")

    def _warn_of_shared_pages(self) -> None:
        """Say where a scorer would be validated on pages that it was trained on."""
        shared = set(self.pages("train")["id"]) & set(self.pages("val")["id"])
        if shared:
            warnings.warn(
                f"data.path: train and val share {len(shared)} of {len(self.pages('val'))} "
                f"validation pages ({min(shared)}, ...), so that validation flatters; take them "
                "out of one",
                stacklevel=2,
            )

    def teardown(self, stage: str) -> None:
        """Write what was skipped beside the run's checkpoints."""
        if self.trainer is not None and self.trainer.is_global_zero:
            items = [item for report in self.skipped.values() for item in report.skipped]
            SkipReport(items).write(Path(self.trainer.default_root_dir))

    def _page_count(self, split: str) -> int:
        """Generated pages of a split; where the trainer only tries a few batches, as many."""
        batches = int(getattr(self.trainer, "fast_dev_run", 0) or 0)
        size = self.sizes[split]
        return min(size, batches * self.batch_size) if batches else size

    def prepare_data(self) -> None:
        """Write pages and the cache of targets on one process, for all of them."""
        check_shared_memory(self.num_workers)
        for split in ("train", "val"):
            self._check_boxes(self.pages(split))
        self._warn_of_shared_pages()
        if self.cache:
            self._check_cacheable()
            for split in ("train", "val"):
                self._cache(split)

    def setup(self, stage: str) -> None:
        for split in ("train", "val"):
            self._observed[split] = (
                self._cache(split)
                if self.cache
                else LiveSamples(self.pages(split), self.skipped[split].origins)
            )

    def _placed_observer(self) -> Observer:
        """Return the observer, on the trainer's device."""
        if self.observer is None:
            raise ValueError(
                "observer: none is set; give the module's own, data.observer = module.observer"
            )
        if self.trainer is not None:
            self.observer.place(self.trainer.strategy.root_device)
        return self.observer

    def _check_cacheable(self) -> None:
        if not self._placed_observer().cacheable:
            raise ValueError(
                "data.cache: true keeps targets alone; training through the LLM asks the live "
                "teacher, set it to false"
            )

    def _check_boxes(self, pages: datasets.Dataset) -> None:
        asks = [
            type(target).__name__
            for target in self._placed_observer().targets()
            if target.needs_boxes
        ]
        if asks and not any(
            question["evidence_boxes"] for page in pages["questions"] for question in page
        ):
            raise DataError(
                f"model.target: {asks[0]} learns from evidence_boxes, and no question of data.path "
                f"{self.source.path} has any; "
                "take AttentionTarget (configs/any.yaml), and where there is one set "
                "model.objectives.distraction.weight to 0"
            )

    def _cache(self, split: str) -> Dataset[DistillationSample]:
        pages, about = self.pages(split), self._about(split)
        directory = Path(self.source.root) / "targets" / f"{split}-{key_of(about)}"
        undecodable = SkipReport(origins=self.skipped[split].origins)
        arguments = {
            "pages": pages,
            "skipped": undecodable,
            "observer": self._placed_observer(),
            "batch_size": self.teacher_batch_size,
            "title": f"targets ({split})",
        }
        records = build_once(directory, observe_all, arguments, about, undecodable.write)
        self._note_skipped(split, SkipReport.read(directory))
        return CachedSamples(records, directory)

    def _about(self, split: str) -> dict[str, Any]:
        """Describe everything that the cached samples depend on."""
        return {
            "pages": self.fingerprints[split],
            **self._placed_observer().description(),
            "format": 4,
        }

    def _loader(self, split: str, shuffle: bool) -> DataLoader:
        observed, trainer = self._observed[split], self.trainer
        assert trainer is not None
        # The order depends on seed and epoch alone: a resumed run and a run on more processes see
        # the same batches.
        sampler: DistributedSampler = DistributedSampler(
            observed, trainer.world_size, trainer.global_rank, shuffle, seed=self.source.seed
        )  # type: ignore[arg-type]
        return DataLoader(
            observed,
            batch_size=self.batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            collate_fn=collate if self.cache else collate_live,
            persistent_workers=self.num_workers > 0,
        )

    def train_dataloader(self) -> DataLoader:
        return self._loader("train", shuffle=True)

    def val_dataloader(self) -> DataLoader:
        return self._loader("val", shuffle=False)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Turn samples into a training batch, where the teacher is live."""
        if self.cache:
            return batch
        batch, skipped = batch
        self._note_skipped("train" if self.trainer and self.trainer.training else "val", skipped)
        observer, trainer = self._placed_observer(), self.trainer
        assert trainer is not None
        # The trainer opens its precision's context for steps alone.
        own = trainer.precision_plugin.forward_context()
        with own if observer.follows_precision else nullcontext(), as_model_flags():
            return observer.batch(batch, trainer.training)
