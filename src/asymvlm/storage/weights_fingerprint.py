"""Which weights a directory holds."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path


def weights_fingerprint(path: str) -> str:
    """Changes when the weights in a local directory do; empty for a repository, whose commit is its own mark."""
    files: list[Path] = []
    if not path:
        return ""
    for kind in ("safetensors", "bin", "pt", "pth"):
        files = files or sorted(Path(path).glob(f"[!.]*.{kind}")) if Path(path).is_dir() else []
    return ";".join(f"{file.name}:{_digest(file, file.stat().st_mtime_ns)[:16]}" for file in files)


@functools.cache
def _digest(file: Path, changed: int) -> str:
    """Of a file as it was last `changed`; shards of a large VLM take a while, so each is read once."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
