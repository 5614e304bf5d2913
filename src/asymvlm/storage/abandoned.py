"""Drafts that killed commands left behind: found by their locks, and removed.

A command holds a lock on each of its drafts, which the system takes away when the process ends,
however it ends. So a draft that nobody holds is abandoned.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

# In the name of every draft, so that nobody else's files are taken for one.
_MARK = ".asymvlm-draft-"
# Behind the name of what a directory replaces while it is renamed.
_ASIDE = "-aside"


@contextmanager
def new_draft(place: Path, make: Callable[..., str]) -> Iterator[Path]:
    """Hold a draft of `place` in its folder while open, as `make(prefix=..., dir=...)` makes it.

    Abandoned ones are removed first, whatever they were drafts of.
    """
    with ExitStack() as stack:
        # Nobody else looks for abandoned ones before the new one is held.
        with _held(place.parent, wait=True):
            _remove_abandoned(place.parent)
            draft = Path(make(prefix=f".{place.name}{_MARK}", dir=place.parent))
            stack.enter_context(_held(draft))
        yield draft


@contextmanager
def put_aside(place: Path, draft: Path) -> Iterator[Path]:
    """Rename `place` while open; if nothing has taken its name by then, it has it again."""
    aside = draft.with_name(f"{draft.name}{_ASIDE}")
    with _held(place.parent, wait=True):
        os.replace(place, aside)
        try:
            yield aside
        finally:
            # An interrupt counts too.
            os.replace(aside, draft if place.exists() else place)


def _remove_abandoned(folder: Path) -> None:
    """Remove drafts that nobody holds.

    What a killed command had put aside to replace it comes back, if nothing took its place.
    """
    for path in folder.glob(f".*{_MARK}*"):
        with _held(path) as got, suppress(OSError):
            place = folder / path.name[1:].partition(_MARK)[0]
            if got and path.name.endswith(_ASIDE) and not place.exists():
                os.replace(path, place)
            elif got and path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif got:
                path.unlink()


@contextmanager
def _held(path: Path, wait: bool = False) -> Iterator[bool]:
    """Hold a file or directory while open; gives whether nobody else does."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        yield False
        return
    try:
        yield _lock(handle, wait)
    finally:
        os.close(handle)


def _lock(handle: int, wait: bool) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # another one holds it, or the file system knows no locks
        return False
    return True
