"""A folder of real pages: pictures and JSONL files with one question a line."""

from __future__ import annotations

import json
from pathlib import Path

import datasets

from ...errors import DataError
from ..sample import SkipReport
from .records import PageTable


def folder_pages(root: Path, split: str) -> tuple[datasets.Dataset, SkipReport]:
    """Read the pages of `root/<split>/*.jsonl` or `root/<split>.jsonl`.

    One row for each set of pictures with all its questions.

    A record has `image` (a path relative to `root`, or to the file) or `images`, `question`,
    `answers`, and may have `id`, `evidence_boxes`, `key_boxes`, `alt_evidence`, `history`, `kind`.
    A broken record is skipped, counted and named.

    Raises DataError if there is no file, or no usable record.
    """
    files = _files_of(root, split)
    if split == "test" and not files:
        # As with other data: who has no test pages is evaluated on the validation pages.
        files = _files_of(root, "val")
    if not files:
        raise DataError(
            f"data.path: {root} has no {split}/*.jsonl and no {split}.jsonl; see data/README.md "
            "for the form"
        )
    table = PageTable([root, *dict.fromkeys(file.parent for file in files)])
    for file in files:
        add_lines(table, file)
    return table.pages(f"{root}, split {split!r},")


def _files_of(root: Path, split: str) -> list[Path]:
    return sorted((root / split).glob("*.jsonl")) or [
        path for path in [root / f"{split}.jsonl"] if path.is_file()
    ]


def add_lines(table: PageTable, file: Path) -> None:
    """Read every line of a JSONL file."""
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        name = f"{file.name}:{number}"
        if line.strip():
            try:
                record = json.loads(line)
            except ValueError as error:
                table.report.skip(name, str(error))
                continue
            table.add(record, name)
