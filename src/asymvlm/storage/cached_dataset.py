"""Data sets that are built the first time and read from disk afterwards."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets

from ..errors import DataError
from .atomic import draft_directory, publish_directory
from .fingerprint import differences, digest

ABOUT_FILE = "about.json"


def build_once(
    directory: Path,
    rows: Callable[..., Iterator[dict[str, Any]]],
    arguments: dict[str, Any],
    about: dict[str, Any] | None = None,
    finish: Callable[[Path], Any] = lambda _: None,
    **options: Any,
) -> datasets.Dataset:
    """Load the data set in `directory`; build it of `rows(**arguments)` where there is none.

    Where several processes build it at once, the first one's stays.

    Args:
        directory: Complete whenever it exists: what is being made lies beside it.
        rows: A generator of rows.
        arguments: What it is called with.
        about: What the content depends on, kept as about.json. The directory's name is then
            `name-key`, and where `name` is there under another key, what differs is said.
        finish: Called with the directory when all rows are in it, to put files beside them.
        options: More for `datasets.Dataset.from_generator`.

    Raises DataError for a directory that was damaged.
    """
    if not directory.is_dir():
        if about is not None:
            _say_what_differs(directory, about)
        with draft_directory(directory) as draft, _no_bars_of_datasets():
            dataset = datasets.Dataset.from_generator(
                rows,
                gen_kwargs=arguments,
                cache_dir=str(draft / "cache"),
                # The directory is keyed by content; `datasets` need not hash a whole model.
                fingerprint=digest(directory.name.encode()),
                **options,
            )
            dataset.save_to_disk(str(draft / "made"))
            if about is not None:
                (draft / "made" / ABOUT_FILE).write_text(
                    json.dumps(about, indent=2) + "\n", encoding="utf-8"
                )
            finish(draft / "made")
            _publish(draft / "made", directory)
    try:
        return datasets.load_from_disk(str(directory))
    except Exception as error:  # whatever a reader makes of broken files
        raise DataError(
            f"{directory} is damaged ({type(error).__name__}); move it away, and it is made anew"
        ) from error


def _say_what_differs(directory: Path, about: dict[str, Any]) -> None:
    name = directory.name.rpartition("-")[0]
    others = [
        file
        for file in directory.parent.glob(f"{name}-*/{ABOUT_FILE}")
        if file.parent.name.rpartition("-")[0] == name
    ]
    if others:
        newest = max(others, key=lambda file: file.stat().st_mtime_ns)
        changed = differences(json.loads(newest.read_text(encoding="utf-8")), about)
        print(f"{directory}: made anew, unlike {newest.parent.name} in {'; '.join(changed[:5])}")


def _publish(dataset: Path, directory: Path) -> None:
    try:
        publish_directory(dataset, directory)
    except OSError:
        if not directory.is_dir():  # it is where another process was quicker
            raise


@contextmanager
def _no_bars_of_datasets() -> Iterator[None]:
    """Switch the bars of `datasets` off: a second bar only scrolls ours away."""
    shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()
