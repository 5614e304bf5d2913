"""A test of folders, before any work: can something be written there."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from ..errors import DataError


def check_writable(folder: Path, setting: str) -> None:
    """Write nothing much into a folder, or where it would be made, and remove it again.

    Permissions do not say it: file systems are mounted to be read, are the kernel's, or are full.
    Raises DataError, naming the setting that says which folder.
    """
    target = Path(os.path.realpath(folder))
    around = next(parent for parent in (target, *target.parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=around):
            pass
    except OSError as error:
        raise DataError(
            f"{setting}: {folder} cannot be written ({error.strerror}); name another folder"
        ) from error
