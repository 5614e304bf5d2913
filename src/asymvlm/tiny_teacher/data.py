"""Batches for the recipe: pages with labels and captions, later with questions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from ..cli.progress import track
from ..documents.world.dialogues import Difficulty
from ..documents.world.forms import crowded_form
from ..documents.world.generate import generate
from ..documents.world.page import Page
from ..limits import check_above, check_at_least, check_within
from .blocks import BlockBuilder, Reading, easy_reading, sparse_reading, talking_reading
from .labels import PatchLabels, patch_labels
from .recipe import TeacherBatch, TeacherRecipe
from .tokens import PATCH_SIZE, caption_tokenizer

# The second stage's lessons: (entries shown, vision tokens shown, questions a page).
LESSONS = ((1, 24, 1), (2, 40, 2), (4, 80, 4), (6, 128, 6), (99, 256, 9))
# Its lessons of dialogues, besides: (facts and turns of talk, entries shown, vision tokens shown,
# questions for text, page and both). The first are without a page, and nothing else is taught
# meanwhile: beside lessons about pages this is learned late, or not at all. Never so few that a
# number and a wish need not be told apart by their person.
TALKS = (
    (Difficulty(4, 0), 99, 0, (4, 0, 0)),
    (Difficulty(8, 0), 99, 0, (8, 0, 0)),
    (Difficulty(8, 3), 99, 0, (6, 0, 0)),
    (Difficulty(8, 2), 4, 64, (3, 1, 3)),
    (Difficulty(8, 6), 8, 128, (3, 1, 3)),
)
# The next lesson starts when the loss is low, or when one has had its share of the steps: questions
# about halves can keep the loss of a middle lesson up for good.
_LEARNED, _LEARNED_TALK, _LONGEST = 0.6, 0.12, 0.15
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

    def draw(self, rng: np.random.Generator, count: int, tables: float = 1.0) -> np.ndarray:
        """Random rows; a page with a table is drawn `tables` times as often as another."""
        if tables == 1.0:
            return rng.integers(0, len(self), count)
        weights = np.where(self._tables, tables, 1.0)
        return rng.choice(len(self), count, p=weights / weights.sum())

    @cached_property
    def _tables(self) -> np.ndarray:
        """The indices of pages with a table."""
        return np.array([page.kind == "table" for page in self.pages])

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
        reading_batch: Pages per step of the second stage, read from frozen features; half as many
            with a dialogue about each.
        joint_batch: Pages per step of the third stage.
        sparse_from: Share of the second stage after which half of the batches without a dialogue
            show few tokens.
        tables: How many times as often as other pages those with a table are read from the second
            stage on: a cell takes two steps to find (its row and its column), so tables come last.
        talk_share: Shares of the second stage's batches (once facts are remembered) and of the
            third's that are dialogues.
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
        tables: float = 3.0,
        talk_share: tuple[float, float] = (0.15, 0.3),
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_at_least(1, {"data.pages": pages, "data.crowded": crowded})
        check_at_least(1, {"data.tower_batch": tower_batch, "data.joint_batch": joint_batch})
        check_at_least(1, {"data.reading_batch": reading_batch})
        check_within(0, 1, {"data.sparse_from": sparse_from})
        check_above(0, {"data.tables": tables})
        for share in talk_share:
            check_within(0, 1, {"data.talk_share": share})
        check_at_least(0, {"data.seed": seed})
        self.sizes = (pages, crowded)
        self.batches = (tower_batch, reading_batch, joint_batch)
        self.sparse_from = sparse_from
        self.tables = tables
        self.talk_share = talk_share
        self.seed = seed
        self.pool: PagePool | None = None

    def train_dataloader(self) -> DataLoader:
        assert self.trainer is not None
        if self.pool is None:
            pages = self.sizes[0]
            self.pool = PagePool(
                lambda index: generate(self.seed, "teacher", index)[0], pages, "teacher's pages"
            )
        recipe: Any = self.trainer.lightning_module
        return DataLoader(_Course(self, self.pool, recipe), batch_size=None)


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
        self.builder = BlockBuilder(
            recipe.processor.tokenizer, (pool.pages[0].size // PATCH_SIZE) ** 2
        )

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[TeacherBatch]:
        return (self._tower, self._reading, self._joint)[self.stage]()

    def _tower(self) -> Iterator[TeacherBatch]:
        settings = self.settings
        make = partial(_crowded_page, settings.seed)
        full = PagePool(make, settings.sizes[1], "crowded pages")
        for step in range(self.steps):
            yield self._labelled(self.pool if step % 2 else full, settings.batches[0])

    def _joint(self) -> Iterator[TeacherBatch]:
        size = self.settings.batches[2]
        for _ in range(self.steps):
            rows = self.pool.draw(self.rng, size, self.settings.tables)
            talk = self.rng.random() < self.settings.talk_share[1]
            readings = self._talk(rows, TALKS[-1]) if talk else self._whole_or_sparse(rows)
            yield self._labelled(self.pool, size, rows, readings)

    def _labelled(
        self,
        pool: PagePool,
        size: int,
        rows: np.ndarray | None = None,
        readings: list[Reading] | None = None,
    ) -> TeacherBatch:
        rows = pool.draw(self.rng, size) if rows is None else rows
        pages = [pool.pages[row] for row in rows]
        labels = PatchLabels.stack([patch_labels(page, PATCH_SIZE) for page in pages])
        captions = self.captions(
            [self._caption(page) for page in pages], return_tensors="pt", padding=True
        )
        blocks = None if readings is None else self.builder(readings)
        return TeacherBatch(pool.batch(rows), None, labels, captions, blocks)

    def _caption(self, page: Page) -> str:
        """A few of the page's entries in words, as CLIP's captions name some of what a picture
        shows.
        """
        chosen = self.rng.permutation(len(page.fields))[: self.rng.integers(1, 5)]
        fields = [page.fields[index] for index in chosen]
        words = [
            f"{field.name} {field.value}" if self.rng.random() < 0.3 else field.name
            for field in fields
        ]
        return " ".join(words)

    def _easy(self, row: int, lesson: tuple[int, int, int]) -> Reading:
        return easy_reading(row, self.pool.pages[row], self.rng, *lesson, PATCH_SIZE)

    def _reading(self) -> Iterator[TeacherBatch]:
        pool, share = self.pool, self.settings.talk_share[0]
        features = self._features(pool)
        pages = _Lessons(len(LESSONS), _LEARNED, _LONGEST * self.steps)
        talks = _Lessons(len(TALKS), _LEARNED_TALK, _LONGEST * self.steps)
        for step in range(self.steps):
            rows = pool.draw(self.rng, self.settings.batches[1], self.settings.tables)
            alone = TALKS[talks.number][2] == 0  # facts come first, without a page
            lessons = talks if alone or self.rng.random() < share else pages
            if lessons is talks:
                # A page and a dialogue together are long.
                rows = rows[: (len(rows) + 1) // 2] if TALKS[talks.number][2] else rows
                readings = self._talk(rows, TALKS[talks.number])
            elif pages.last and step > self.settings.sparse_from * self.steps:
                readings = self._whole_or_sparse(rows)
            else:
                readings = [self._easy(int(row), LESSONS[pages.number]) for row in rows]
            shown = features[torch.from_numpy(rows)]
            yield TeacherBatch(None, shown, None, None, self.builder(readings))
            lessons.hear(self.recipe.last_answer_loss)

    def _talk(
        self, rows: np.ndarray, lesson: tuple[Difficulty, int, int, tuple[int, int, int]]
    ) -> list[Reading]:
        return [
            talking_reading(int(row), self.pool.pages[row], self.rng, *lesson, PATCH_SIZE)
            for row in rows
        ]

    def _whole_or_sparse(self, rows: np.ndarray) -> list[Reading]:
        pool = self.pool
        if self.rng.random() < 0.5:
            return [
                easy_reading(int(row), pool.pages[row], self.rng, *LESSONS[-1], PATCH_SIZE)
                for row in rows
            ]
        tokens, questions = SPARSE[self.rng.integers(len(SPARSE))]
        return [
            sparse_reading(int(row), pool.pages[row], self.rng, tokens, questions, PATCH_SIZE)
            for row in rows
        ]

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


class _Lessons:
    """Goes through lessons: on when the loss is low, or when one has lasted too long."""

    def __init__(self, count: int, learned: float, longest: float) -> None:
        self.count, self.learned, self.longest = count, learned, longest
        self.number, self.since, self.loss = 0, 0, float("nan")

    @property
    def last(self) -> bool:
        return self.number == self.count - 1

    def hear(self, loss: float) -> None:
        """The loss of the newest step's answers."""
        self.since += 1
        self.loss = loss if np.isnan(self.loss) else 0.95 * self.loss + 0.05 * loss
        if (
            not self.last
            and self.since > 20
            and (self.loss < self.learned or self.since > self.longest)
        ):
            self.number, self.since, self.loss = self.number + 1, 0, self.loss + 0.5
