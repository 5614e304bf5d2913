"""Progress bars with an ETA, for long steps outside the trainer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


@contextmanager
def track(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a progress bar while open; call what it yields with how many were done."""
    columns = (
        # Titles have names of the user's, and what is in brackets is no style.
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as progress:
        task = progress.add_task(title, total=total)
        yield lambda done: progress.advance(task, done)
