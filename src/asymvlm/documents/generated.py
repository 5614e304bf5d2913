"""The generated world as a `datasets` dataset on disk, written once."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import datasets

from ..progress import track
from .page import Page, Question
from .sample import FEATURES, no_bars_of_datasets
from .world import generate, generate_dialogue

_VERSION = 4  # raise when the same seed gives other pages, so that nobody trains on stale ones

_Make = Callable[[int], tuple[Page, list[Question]]]


def generated_pages(root: Path, split: str, count: int, seed: int = 0, localised: int = 3, holistic: int = 2) -> datasets.Dataset:
    """`count` pages of a split; written under `root` the first time, read from there afterwards."""
    name = f"world-v{_VERSION}-seed{seed}-{split}-{count}x{localised}+{holistic}"
    return _written(root, name, split, count, partial(generate, seed, split, localised=localised, holistic=holistic))


def generated_dialogues(root: Path, split: str, count: int, seed: int = 0) -> datasets.Dataset:
    """`count` pages of a split with a dialogue about each and three questions that may end it; likewise."""
    return _written(root, f"dialogues-v{_VERSION}-seed{seed}-{split}-{count}", split, count, partial(generate_dialogue, seed, split))


def _written(root: Path, name: str, split: str, count: int, make: _Make) -> datasets.Dataset:
    directory = root / name
    if not directory.is_dir():
        root.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=root))
        try:
            arguments = {"make": make, "split": split, "count": count}
            with no_bars_of_datasets():
                made = datasets.Dataset.from_generator(
                    _rows, features=FEATURES, gen_kwargs=arguments, cache_dir=str(draft / "cache"), split=split
                )
                made.save_to_disk(str(draft / "pages"))
            os.replace(draft / "pages", directory)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return datasets.load_from_disk(str(directory))


def fingerprint(pages: datasets.Dataset) -> str:
    """A hash of everything in it: pictures as stored, questions, answers and boxes."""
    digest = hashlib.sha256()
    for batch in pages.data.table.to_batches():
        for column in batch.columns:
            for value in column.to_pylist():
                digest.update(repr(value).encode())
    return digest.hexdigest()[:16]


def _rows(make: _Make, split: str, count: int) -> Iterator[dict[str, Any]]:
    with track(f"pages ({split})", count) as advance:
        for index in range(count):
            yield page_row(f"{split}-{index}", *make(index))
            advance(1)


def page_row(name: str, page: Page, questions: list[Question]) -> dict[str, Any]:
    """A generated page in the dataset's form."""
    buffer = io.BytesIO()
    page.image.save(buffer, format="JPEG", quality=92)
    return {
        "id": name,
        "images": [{"bytes": buffer.getvalue(), "path": None}],
        "questions": [
            {
                "id": f"{name}-{number}",
                "question": question.text,
                "answers": list(question.answers),
                "history": [list(turn) for turn in question.history],
                "evidence_boxes": [list(box) for box in question.evidence_boxes],
                "key_boxes": [list(box) for box in question.key_boxes],
                "alt_evidence": [],
                "kind": question.kind,
                "group": question.group,
            }
            for number, question in enumerate(questions)
        ],
    }
