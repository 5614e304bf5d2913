"""Directories that appear whole or not at all: built beside their place, then renamed into it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def draft_beside(place: Path) -> Iterator[Path]:
    """An empty directory next to `place`, so that a rename puts it there. What still lies in it at the end is removed."""
    place.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
    draft.chmod(0o755)  # mkdtemp's own lets nobody else read
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def replace_directory(draft: Path, place: Path) -> None:
    """Rename `draft` to `place`; a directory that was there stays, or comes back, until the new one has its name."""
    if not place.exists():
        os.replace(draft, place)
        return
    with draft_beside(place) as old:
        os.replace(place, old)  # an empty directory may be renamed over
        try:
            os.replace(draft, place)
        finally:  # an interrupt counts too: `old` is removed at the end of the block
            if not place.exists():
                os.replace(old, place)
