"""A folder of real pages: pictures and JSONL files with one question a line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
from PIL import Image, UnidentifiedImageError

from ..errors import DataError
from .sample import FEATURES, SkipReport


def folder_pages(root: Path, split: str) -> tuple[datasets.Dataset, SkipReport]:
    """The pages of `root/<split>/*.jsonl` (or `root/<split>.jsonl`), one row a picture with all its questions.

    A record has `image` (a path relative to `root`, or to the file), `question`, `answers`, and may have `id`, `evidence_boxes`,
    `key_boxes`, `alt_evidence`, `kind`. A broken record is skipped, counted and named.

    Raises DataError if there is no file, or no usable record.
    """
    files = sorted((root / split).glob("*.jsonl")) or [path for path in [root / f"{split}.jsonl"] if path.is_file()]
    if not files:
        raise DataError(f"data.path: {root} has no {split}/*.jsonl and no {split}.jsonl; see data/README.md for the form")
    report = SkipReport()
    pages: dict[Path, dict[str, Any]] = {}
    pictures: dict[Path, str | None] = {}  # why a picture cannot be used
    for file in files:
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
            if not line.strip():
                continue
            name = f"{file.name}:{number}"
            try:
                record = json.loads(line)
                path, question = _question(record, root, file.parent, name)
                if path not in pictures:
                    pictures[path] = _broken(path)
                if pictures[path]:
                    raise ValueError(pictures[path])
            except ValueError as error:
                report.skip(name, str(error))
                continue
            page = pages.setdefault(path, {"id": path.stem, "image": str(path), "questions": []})
            page["questions"].append(question)
            report.used += 1
    if not pages:
        raise DataError("; ".join([f"data.path: {root} has no usable record for split {split!r}", *report.lines(3)]))
    return datasets.Dataset.from_list(list(pages.values()), features=FEATURES), report


def _question(record: Any, root: Path, beside: Path, name: str) -> tuple[Path, dict[str, Any]]:
    if not isinstance(record, dict):
        raise ValueError("is not a JSON object")
    question, answers = record.get("question"), record.get("answers")
    if not isinstance(question, str) or not question.strip():
        raise ValueError("question is empty")
    if not isinstance(answers, list) or not answers or not all(isinstance(one, str) and one for one in answers):
        raise ValueError("answers must be a list with at least one text")
    if not isinstance(record.get("image"), str):
        raise ValueError("image must be a path")
    path = next((base / record["image"] for base in (root, beside) if (base / record["image"]).is_file()), None)
    if path is None:
        raise ValueError(f"image {record['image']} does not exist")
    kind = str(record.get("kind", "question"))
    boxes = {key: record.get(key) or [] for key in ("evidence_boxes", "key_boxes")}
    alternatives = record.get("alt_evidence") or []
    for key, value in [*boxes.items(), *(("alt_evidence", group) for group in alternatives)]:
        if not all(isinstance(box, list) and len(box) == 4 and box[0] < box[2] and box[1] < box[3] for box in value):
            raise ValueError(f"{key} must hold boxes [x0, y0, x1, y1] with x0 < x1 and y0 < y1")
    described = {"id": str(record.get("id", name)), "kind": kind, "group": kind, "alt_evidence": alternatives, **boxes}
    return path, {"question": question, "answers": answers, **described}


def _broken(path: Path) -> str | None:
    try:
        with Image.open(path) as image:
            image.load()
    except (UnidentifiedImageError, OSError) as error:
        return f"image {path.name} cannot be read ({error})"
    return None
