"""Fingerprint of the weights in a directory."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path


def weights_fingerprint(path: str) -> str:
    """Digest the weight files of a directory; empty for a repository, which has a commit."""
    files: list[Path] = []
    if not path:
        return ""
    for kind in ("safetensors", "bin", "pt", "pth"):
        files = files or sorted(Path(path).glob(f"[!.]*.{kind}")) if Path(path).is_dir() else []
    return ";".join(f"{file.name}:{_digest(file, file.stat().st_mtime_ns)[:16]}" for file in files)


@functools.cache
def _digest(file: Path, changed: int) -> str:
    """Digest a file once per change, as shards of a large VLM take a while."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
