"""Digests of files, computed once per process for each that does not change."""

from __future__ import annotations

import functools
import hashlib
import os
from pathlib import Path


def file_digest(path: str | Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal digits."""
    about = os.stat(path)
    return _digest(str(path), about.st_size, about.st_mtime_ns)


@functools.cache
def _digest(path: str, size: int, changed: int) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
