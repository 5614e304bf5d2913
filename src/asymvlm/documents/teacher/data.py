"""Batches for the teacher's recipe: pages with labels and captions, and from the second stage on with questions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import lightning as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from ...progress import track
from ..forms import crowded_form
from ..page import Page
from ..world import generate
from .blocks import BlockBuilder, Reading, easy_reading, sparse_reading
from .labels import PatchLabels, patch_labels
from .recipe import TeacherBatch, TeacherRecipe
from .tokens import PATCH_SIZE, caption_tokenizer

# The second stage's lessons: (entries shown, vision tokens shown, questions a page). The next one starts when the loss is low, or when
# the lesson has had its share of the steps: questions about halves can keep the loss of a middle lesson up for good.
LESSONS = ((1, 24, 1), (2, 40, 2), (4, 80, 4), (6, 128, 6), (99, 256, 9))
_LEARNED, _LONGEST = 0.6, 0.12
# Token dropout: vision tokens shown of a whole page, and questions whose evidence must fit.
SPARSE = ((16, 2), (24, 3), (48, 4), (96, 6), (160, 8))


class PagePool:
    """Pages kept as pixels and fields."""

    def __init__(self, make: Callable[[int], Page], count: int, title: str) -> None:
        self.pixels: list[np.ndarray] = []
        self.pages: list[Page] = []
        with track(title, count) as advance:
            for index in range(count):
                page = make(index)
                self.pixels.append(np.asarray(page.image))
                self.pages.append(replace(page, image=None))  # type: ignore[arg-type]
                advance(1)

    def __len__(self) -> int:
        return len(self.pages)

    def batch(self, rows: np.ndarray) -> Tensor:
        """`[B, 3, H, W]` as the teacher's processor normalises it."""
        pixels = torch.from_numpy(np.stack([self.pixels[row] for row in rows]))
        return pixels.permute(0, 3, 1, 2).float() / 127.5 - 1


class TeacherPages(L.LightningDataModule):
    """Feeds the three stages, one an epoch.

    Args:
        pages: Generated pages of the world's own layouts.
        crowded: Pages full of fields besides, for the first stage: much to read at once.
        tower_batch: Pages per step of the first stage.
        reading_batch: Pages per step of the second stage, read from frozen features.
        joint_batch: Pages per step of the third stage.
        sparse_from: Share of the second stage after which half of the batches show few tokens.
        seed: Seed of pages and batches.
    """

    def __init__(
        self,
        pages: int = 8000,
        crowded: int = 3000,
        tower_batch: int = 16,
        reading_batch: int = 32,
        joint_batch: int = 16,
        sparse_from: float = 0.5,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.sizes = (pages, crowded)
        self.batches = (tower_batch, reading_batch, joint_batch)
        self.sparse_from, self.seed = sparse_from, seed
        self.pool: PagePool | None = None

    def train_dataloader(self) -> DataLoader:
        assert self.trainer is not None
        if self.pool is None:
            pages = self.sizes[0]
            self.pool = PagePool(lambda index: generate(self.seed, "teacher", index)[0], pages, "teacher's pages")
        return DataLoader(_Course(self, self.pool, self.trainer.lightning_module), batch_size=None)  # type: ignore[arg-type]


def _crowded_page(seed: int, index: int) -> Page:
    return crowded_form(np.random.default_rng([seed, 99, index]))


class _Course(IterableDataset):
    """The batches of the stage that the trainer is in."""

    def __init__(self, settings: TeacherPages, pool: PagePool, recipe: TeacherRecipe) -> None:
        self.settings, self.pool, self.recipe = settings, pool, recipe
        self.stage = recipe.current_epoch
        self.steps = recipe.stages[self.stage].steps
        self.rng = np.random.default_rng([settings.seed, self.stage])
        self.captions = caption_tokenizer(recipe.processor.tokenizer)
        self.builder = BlockBuilder(recipe.processor.tokenizer, (pool.pages[0].size // PATCH_SIZE) ** 2)

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[TeacherBatch]:
        return (self._tower, self._lessons, self._joint)[self.stage]()

    def _tower(self) -> Iterator[TeacherBatch]:
        settings = self.settings
        make = partial(_crowded_page, settings.seed)
        full = PagePool(make, settings.sizes[1], "crowded pages")
        for step in range(self.steps):
            yield self._labelled(self.pool if step % 2 else full, settings.batches[0])

    def _joint(self) -> Iterator[TeacherBatch]:
        size = self.settings.batches[2]
        for _ in range(self.steps):
            rows = self.rng.integers(0, len(self.pool), size)
            yield self._labelled(self.pool, size, rows, self._whole_or_sparse(rows))

    def _labelled(self, pool: PagePool, size: int, rows: np.ndarray | None = None, readings: list[Reading] | None = None) -> TeacherBatch:
        rows = self.rng.integers(0, len(pool), size) if rows is None else rows
        pages = [pool.pages[row] for row in rows]
        labels = PatchLabels.stack([patch_labels(page, PATCH_SIZE) for page in pages])
        captions = self.captions([self._caption(page) for page in pages], return_tensors="pt", padding=True)
        blocks = None if readings is None else self.builder(readings)
        return TeacherBatch(pool.batch(rows), None, labels, captions, blocks)

    def _caption(self, page: Page) -> str:
        """A few of the page's entries in words, as CLIP's captions name some of what a picture shows."""
        chosen = self.rng.permutation(len(page.fields))[: self.rng.integers(1, 5)]
        fields = [page.fields[index] for index in chosen]
        words = [f"{field.name} {field.value}" if self.rng.random() < 0.3 else field.name for field in fields]
        return " ".join(words)

    def _lessons(self) -> Iterator[TeacherBatch]:
        pool, size = self.pool, self.settings.batches[1]
        features = self._features(pool)
        lesson, since, loss = 0, 0, float("nan")
        for step in range(self.steps):
            rows = self.rng.integers(0, len(pool), size)
            fields, tokens, questions = LESSONS[lesson]
            last = lesson == len(LESSONS) - 1
            if last and step > self.settings.sparse_from * self.steps:
                readings = self._whole_or_sparse(rows)
            else:
                readings = [easy_reading(int(row), pool.pages[row], self.rng, fields, tokens, questions, PATCH_SIZE) for row in rows]
            yield TeacherBatch(None, features[torch.from_numpy(rows)], None, None, self.builder(readings))
            now, since = self.recipe.last_answer_loss, since + 1
            loss = now if np.isnan(loss) else 0.95 * loss + 0.05 * now
            if not last and since > 20 and (loss < _LEARNED or since > _LONGEST * self.steps):
                lesson, since, loss = lesson + 1, 0, loss + 0.5

    def _whole_or_sparse(self, rows: np.ndarray) -> list[Reading]:
        pool = self.pool
        if self.rng.random() < 0.5:
            return [easy_reading(int(row), pool.pages[row], self.rng, *LESSONS[-1], PATCH_SIZE) for row in rows]
        tokens, questions = SPARSE[self.rng.integers(len(SPARSE))]
        return [sparse_reading(int(row), pool.pages[row], self.rng, tokens, questions, PATCH_SIZE) for row in rows]

    @torch.no_grad()
    def _features(self, pool: PagePool, size: int = 64) -> Tensor:
        """V of every page, in bf16: `[pages, P, D]`."""
        parts = []
        with track("features", len(pool)) as advance, torch.autocast("cpu", torch.bfloat16):
            for start in range(0, len(pool), size):
                rows = np.arange(start, min(start + size, len(pool)))
                parts.append(self.recipe.tower_features(pool.batch(rows))[0].bfloat16())
                advance(len(rows))
        return torch.cat(parts)
