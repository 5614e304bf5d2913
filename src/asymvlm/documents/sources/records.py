"""Checks of one record: a question, its answers, its pictures, perhaps boxes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import datasets
from PIL import Image, UnidentifiedImageError

from ...errors import DataError
from ..sample import FEATURES, SkipReport


def checked_question(record: Any, name: str) -> dict[str, Any]:
    """Convert a record to the dataset's form.

    Raises ValueError that says what is wrong with it.
    """
    if not isinstance(record, dict):
        raise ValueError("is not a JSON object")
    question, answers = record.get("question"), record.get("answers")
    if not isinstance(question, str) or not question.strip():
        raise ValueError("question is empty")
    if isinstance(answers, str):
        answers = [answers]
    if (
        not isinstance(answers, list)
        or not answers
        or not all(isinstance(answer, str) and answer for answer in answers)
    ):
        raise ValueError("answers must be a list with at least one text")
    kind = str(record.get("kind") or "question")
    boxes = {key: record.get(key) or [] for key in ("evidence_boxes", "key_boxes")}
    alternatives = record.get("alt_evidence") or []
    for key, value in [*boxes.items(), *(("alt_evidence", group) for group in alternatives)]:
        if not all(len(box) == 4 and box[0] < box[2] and box[1] < box[3] for box in value):
            raise ValueError(f"{key} must hold boxes [x0, y0, x1, y1] with x0 < x1 and y0 < y1")
    history = record.get("history") or []
    if not all(
        isinstance(turn, list) and len(turn) == 2 and all(isinstance(said, str) for said in turn)
        for turn in history
    ):
        raise ValueError("history must hold turns [user, assistant], both texts")
    described = {
        "history": history,
        "id": str(record.get("id") or name),
        "kind": kind,
        "group": kind,
        "alt_evidence": alternatives,
        **boxes,
    }
    return {"question": question, "answers": answers, **described}


class PageTable:
    """Collects records into pages; skips, counts and names what cannot be used.

    Picture paths are looked for under each of `roots` in turn.
    """

    def __init__(self, roots: Sequence[Path]) -> None:
        self.roots = roots
        self.report = SkipReport()
        self._pages: dict[tuple[Path, ...], dict[str, Any]] = {}
        self._broken: dict[Path, str | None] = {}  # why a picture cannot be used

    def add(self, record: Any, name: str) -> None:
        """Add a record with `image` (a path) or `images` (several)."""
        try:
            question = checked_question(record, name)
            paths = tuple(self._find(image) for image in _named_images(record))
            for path in paths:
                if path not in self._broken:
                    self._broken[path] = _why_broken(path)
                if self._broken[path]:
                    raise ValueError(self._broken[path])
        except (ValueError, TypeError) as error:
            self.report.skip(name, str(error))
            return
        page = self._pages.setdefault(
            paths, {"id": paths[0].stem, "images": [str(path) for path in paths], "questions": []}
        )
        page["questions"].append(question)
        self.report.used += 1

    def add_all(self, records: Iterable[Any], name: str) -> None:
        for number, record in enumerate(records, start=1):
            self.add(record, f"{name}:{number}")

    def pages(self, where: str) -> tuple[datasets.Dataset, SkipReport]:
        """Return all pages.

        Raises DataError if no record could be used.
        """
        if not self._pages:
            raise DataError(
                "; ".join([f"data.path: {where} has no usable record", *self.report.lines(3)])
            )
        return datasets.Dataset.from_list(
            list(self._pages.values()), features=FEATURES
        ), self.report

    def _find(self, named: str) -> Path:
        found = next((root / named for root in self.roots if (root / named).is_file()), None)
        if found is None:
            raise ValueError(f"image {named} does not exist")
        return found


def _named_images(record: dict[str, Any]) -> list[str]:
    named = record.get("images", record.get("image"))
    named = [named] if isinstance(named, str) else named
    if not isinstance(named, list) or not named or not all(isinstance(item, str) for item in named):
        raise ValueError("image must be a path, or images a list of paths")
    return named


def _why_broken(path: Path) -> str | None:
    try:
        with Image.open(path) as image:
            image.load()
    except (UnidentifiedImageError, OSError) as error:
        return f"image {path.name} cannot be read ({error})"
    return None
