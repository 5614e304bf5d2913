"""Training checkpoints that are replaced whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO

from ..errors import DataError, first_line
from ..export import read_checkpoint
from ..storage.atomic import draft_file


class WholeFileCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and renames it.

    Lightning's own writer drafts it in the system's temporary folder and copies it from there
    where that is another file system, over the checkpoint before.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write a checkpoint; raises DataError, naming the file, where that fails."""
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            # Given a path, torch's writer has errors of its own for a full disk.
            with draft_file(Path(path)) as draft, draft.open("wb") as file:
                torch.save(checkpoint, file)
        except (OSError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or first_line(error)
            raise DataError(f"{path}: {reason}; what was there before is as it was") from error

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Callable | None = lambda storage, place: storage,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Read a checkpoint; raises DataError for a file that is damaged or none."""
        return read_checkpoint(path)
