"""Fingerprint of the weights in a directory."""

from __future__ import annotations

from pathlib import Path

from .file_digest import file_digest


def weights_fingerprint(path: str) -> str:
    """Digest the weight files of a directory; empty for a repository, which has a commit."""
    files: list[Path] = []
    if not path:
        return ""
    for kind in ("safetensors", "bin", "pt", "pth"):
        files = files or sorted(Path(path).glob(f"[!.]*.{kind}")) if Path(path).is_dir() else []
    return ";".join(f"{file.name}:{file_digest(file)[:16]}" for file in files)
