"""The generated world as a `datasets` dataset on disk, written once."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import datasets

from ...cli.progress import track
from ...storage.cached_dataset import build_once
from ...storage.file_digest import file_digest
from ..sample import FEATURES
from .generate import generate, generate_dialogue
from .page import Page, Question

_VERSION = 4  # raise when the same seed gives other pages, so that nobody trains on stale ones

_Make = Callable[[int], tuple[Page, list[Question]]]


def generated_pages(
    root: Path, split: str, count: int, seed: int = 0, localised: int = 3, holistic: int = 2
) -> datasets.Dataset:
    """Load or write `count` generated pages of a split under `root`."""
    name = f"world-v{_VERSION}-seed{seed}-{split}-{count}x{localised}+{holistic}"
    return _written(
        root,
        name,
        split,
        count,
        partial(generate, seed, split, localised=localised, holistic=holistic),
    )


def generated_dialogues(root: Path, split: str, count: int, seed: int = 0) -> datasets.Dataset:
    """Load or write `count` pages of a split with dialogues under `root`."""
    return _written(
        root,
        f"dialogues-v{_VERSION}-seed{seed}-{split}-{count}",
        split,
        count,
        partial(generate_dialogue, seed, split),
    )


def _written(root: Path, name: str, split: str, count: int, make: _Make) -> datasets.Dataset:
    return build_once(
        root / name,
        _rows,
        {"make": make, "split": split, "count": count},
        features=FEATURES,
        split=split,
    )


def fingerprint(pages: datasets.Dataset) -> str:
    """Hash all rows in order: pictures' bytes, questions, answers and boxes.

    Names and places of picture files do not count.
    """
    content = hashlib.sha256()

    def of_bytes(image: bytes) -> str:
        return hashlib.sha256(image).hexdigest()

    for batch in pages.with_format("arrow").iter(64):
        for row in batch.to_pylist():
            images = [
                file_digest(item["path"]) if item["bytes"] is None else of_bytes(item["bytes"])
                for item in row.pop("images")
            ]
            content.update(repr((images, sorted(row.items()))).encode())
    return content.hexdigest()[:16]


def _rows(make: _Make, split: str, count: int) -> Iterator[dict[str, Any]]:
    with track(f"pages ({split})", count) as advance:
        for index in range(count):
            yield page_row(f"{split}-{index}", *make(index))
            advance(1)


def page_row(name: str, page: Page, questions: list[Question]) -> dict[str, Any]:
    """Convert a generated page to the dataset's form."""
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
