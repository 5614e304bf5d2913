"""Samples that training reads: from the cache of targets, or live from pages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import datasets
from torch.utils.data import Dataset

from ..cli.progress import track
from ..distillation.observer import Observer
from ..distillation.sample import DistillationSample, from_record, to_record
from ..documents import Sample, SkipReport, samples
from ..errors import DataError, first_line
from .settings import as_model_flags


class CachedSamples(Dataset[DistillationSample]):
    """Samples of a cache on disk."""

    def __init__(self, records: datasets.Dataset, directory: Path) -> None:
        self.records, self.directory = records, directory

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> DistillationSample:
        try:
            return from_record(self.records[index])
        except Exception as error:  # whatever a reader makes of broken bytes
            raise DataError(
                f"{self.directory} is damaged at sample {index} ({first_line(error)}); "
                "move it away, and it is made anew"
            ) from error


class LiveSamples(Dataset[tuple[Sample, SkipReport]]):
    """Questions of pages; where a page cannot be decoded, the next that can takes its place."""

    def __init__(
        self, pages: datasets.Dataset, origins: dict[tuple[str, int], tuple[str, str]]
    ) -> None:
        self.pages, self.origins = pages, origins
        self._broken: set[int] = set()
        self.index = [
            (row, place)
            for row, page in enumerate(pages["questions"])
            for place in range(len(page))
        ]

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, index: int) -> tuple[Sample, SkipReport]:
        skipped = SkipReport(origins=self.origins)
        for step in range(len(self)):
            row, place = self.index[(index + step) % len(self)]
            if row in self._broken:
                continue
            found = list(samples(self.pages, [row], skipped))
            if found:
                return found[place], SkipReport(skipped.skipped)
            self._broken.add(row)
        raise DataError("; ".join(["data.path: no usable record", *skipped.lines(3)]))


def collate_live(
    items: Sequence[tuple[Sample, SkipReport]],
) -> tuple[list[Sample], SkipReport]:
    """Collect a batch of questions, and what was skipped to get them."""
    return [sample for sample, _ in items], SkipReport(
        [skipped for _, report in items for skipped in report.skipped]
    )


def observe_all(
    pages: datasets.Dataset,
    skipped: SkipReport,
    observer: Observer,
    batch_size: int,
    title: str,
) -> Iterator[dict[str, bytes]]:
    """Ask the teacher about all pages, batch by batch; yields records for the cache."""
    total = sum(len(questions) for questions in pages["questions"])
    waiting: list[Sample] = []
    with track(title, total) as advance:
        for sample in samples(pages, report=skipped):
            waiting.append(sample)
            if len(waiting) == batch_size:
                yield from _records(observer, waiting)
                advance(len(waiting))
                waiting = []
        if waiting:
            yield from _records(observer, waiting)
            advance(len(waiting))
    if len(skipped.skipped) == total:
        raise DataError("; ".join(["data.path: no usable record", *skipped.lines(3)]))


def _records(observer: Observer, questions: Sequence[Sample]) -> list[dict[str, bytes]]:
    with as_model_flags():
        return list(map(to_record, observer.observe(questions)))
