"""A folder of real pages: pictures and JSONL files with one question a line."""

from __future__ import annotations

from pathlib import Path

import datasets

from ...errors import DataError
from ..skip_report import SkipReport
from .lines import add_lines, is_lines
from .records import FileRecords, RecordTable


def split_names(root: Path) -> list[str]:
    """List what may be splits of a folder: `NAME.jsonl`, and `NAME/` with such files in it."""
    found = [path.name.split(".")[0] for path in root.iterdir() if _is_file_of_lines(path)]
    found += [path.name for path in root.iterdir() if path.is_dir() and _files_in(path)]
    return sorted(set(found))


def folder_pages(root: Path, name: str) -> tuple[datasets.Dataset, SkipReport]:
    """Read the pages of `root/<name>/*.jsonl` or `root/<name>.jsonl`.

    A record has `image` (a path relative to `root`, or to the file) or `images`, `question`,
    `answers`, and may have `id`, `boxes`, `evidence_boxes`, `key_boxes`, `alt_evidence`,
    `history`, `kind`. A broken record is skipped, counted and named.

    Raises DataError if there is no usable record.
    """
    files = _files_in(root / name) or sorted(
        path
        for path in root.iterdir()
        if _is_file_of_lines(path) and path.name.split(".")[0] == name
    )
    table = RecordTable()
    records = FileRecords(table, [root, *dict.fromkeys(file.parent for file in files)])
    for file in files:
        add_lines(records, file)
    return table.pages(f"{root}, split {name!r},")


def check_folder(root: Path) -> None:
    """Raise DataError for a folder without any split."""
    if not split_names(root):
        raise DataError(
            f"path: {root} has no train/*.jsonl and no train.jsonl; see data/README.md for the form"
        )


def _files_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _is_file_of_lines(path))


def _is_file_of_lines(path: Path) -> bool:
    return is_lines(path) and path.is_file()
