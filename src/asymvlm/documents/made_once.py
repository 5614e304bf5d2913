"""Data sets that are made the first time and read from disk afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets

from ..drafts import draft_directory, publish_directory


def made_once(
    directory: Path, rows: Callable[..., Iterator[dict[str, Any]]], arguments: dict[str, Any], **options: Any
) -> datasets.Dataset:
    """The data set in `directory`, made of `rows(**arguments)` where there is none; where several make it at once, the first one's stays.

    Args:
        directory: Complete whenever it exists: what is being made lies beside it.
        rows: A generator of rows.
        arguments: What it is called with.
        options: More for `datasets.Dataset.from_generator`.
    """
    if not directory.is_dir():
        with draft_directory(directory) as draft, _no_bars_of_datasets():
            made = datasets.Dataset.from_generator(rows, gen_kwargs=arguments, cache_dir=str(draft / "cache"), **options)
            made.save_to_disk(str(draft / "made"))
            _publish(draft / "made", directory)
    return datasets.load_from_disk(str(directory))


def _publish(made: Path, directory: Path) -> None:
    try:
        publish_directory(made, directory)
    except OSError:
        if not directory.is_dir():  # it is where another process was quicker
            raise


@contextmanager
def _no_bars_of_datasets() -> Iterator[None]:
    """Long work shows its own progress: a second bar beside it only scrolls it away."""
    shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()
