"""Hold a directory against the schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import DataError
from .adapter_folder import check_adapter
from .config_file import check_config, read_json
from .overflow import check_overflow
from .rules import one_line, reason
from .schema import CONFIG_FILE, FORMAT, LARGEST_WEIGHT, SCORER_DTYPES, WEIGHTS_FILE
from .tensor_file import check_shapes, check_values, read_tensors


def is_scorer(directory: Path) -> bool:
    """Return whether a directory's config.json names the format, whatever else is in there."""
    try:
        config = json.loads((directory / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(config, dict) and config.get("format") == FORMAT


def check_directory(directory: str | Path) -> dict[str, Any]:
    """Return the config of a scorer directory that loads and scores.

    Raises DataError for any other: one line with the directory, the file, the key or tensor, its
    value and what is allowed.
    """
    try:
        return _checked(Path(directory))
    except DataError as fault:
        raise DataError(one_line(f"{directory}: {fault}")) from None


def _checked(directory: Path) -> dict[str, Any]:
    _check_files(directory)
    config = read_json(directory / CONFIG_FILE, CONFIG_FILE)
    check_config(config)
    tensors = read_tensors(directory / WEIGHTS_FILE, WEIGHTS_FILE)
    check_shapes(config, {name: stored.shape for name, stored in tensors.items()})
    check_values(tensors, SCORER_DTYPES, WEIGHTS_FILE, LARGEST_WEIGHT)
    check_overflow(config, tensors)
    if "adapter" in config:
        check_adapter(directory)
    return config


def _check_files(directory: Path) -> None:
    files = f"the folder that holds {CONFIG_FILE} and {WEIGHTS_FILE}"
    try:
        if directory.is_file():
            raise DataError(f"is a file; give {files}")
        if not directory.is_dir():
            raise DataError(f"no such directory; give {files}")
        for name in (CONFIG_FILE, WEIGHTS_FILE):
            if not (directory / name).is_file():
                raise DataError(f"{name} is missing, must be a file; give {files}")
    except OSError as error:
        raise DataError(f"cannot be read ({reason(error)}); give {files}") from None
