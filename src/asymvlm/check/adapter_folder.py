"""Hold the folder of an adapter against what the format says of it: LoRA, as peft stores it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from .config_file import check_keys, read_json
from .rules import shown
from .schema import (
    ADAPTER_CONFIG_FILE,
    ADAPTER_DTYPES,
    ADAPTER_FOLDER,
    ADAPTER_KEYS,
    ADAPTER_WEIGHTS_FILE,
)
from .tensor_file import Stored, check_values, read_tensors

_DOWN, _UP = ".lora_A.weight", ".lora_B.weight"
_LARGEST = float(np.finfo(np.float32).max)


def check_adapter(directory: Path) -> None:
    """Raise DataError for the first thing in a scorer's adapter that is wrong."""
    folder = directory / ADAPTER_FOLDER
    for file in (ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE):
        if not (folder / file).is_file():
            raise DataError(
                f"{ADAPTER_FOLDER}/{file} is missing, must be a file; copy the whole folder, or "
                "export it again"
            )
    name = f"{ADAPTER_FOLDER}/{ADAPTER_CONFIG_FILE}"
    config = read_json(folder / ADAPTER_CONFIG_FILE, name)
    check_keys(config, ADAPTER_KEYS, name)
    name = f"{ADAPTER_FOLDER}/{ADAPTER_WEIGHTS_FILE}"
    tensors = read_tensors(folder / ADAPTER_WEIGHTS_FILE, name)
    check_values(tensors, ADAPTER_DTYPES, name, _LARGEST)
    _check_pairs(config, tensors, name)


def _check_pairs(config: dict[str, Any], tensors: dict[str, Stored], name: str) -> None:
    """Every module that is adapted has two matrices, with the rank between them."""
    if not tensors:
        raise DataError(f"{name} has no tensors, must have two a module; export the scorer again")
    for tensor, stored in sorted(tensors.items()):
        if not tensor.endswith((_DOWN, _UP)):
            raise _fault(name, tensor, "is there", f"left out: names end in {_DOWN} or {_UP}")
        first, second = (_DOWN, _UP) if tensor.endswith(_DOWN) else (_UP, _DOWN)
        partner = tensors.get(tensor.removesuffix(first) + second)
        if partner is None:
            raise _fault(name, tensor, "is alone", f"beside one that ends in {second}")
        inner = 0 if first == _DOWN else 1
        if len(stored.shape) < 2 or 0 in stored.shape:
            raise _fault(name, tensor, f"is of shape {list(stored.shape)}", "a matrix")
        if not config.get("rank_pattern") and stored.shape[inner] != config["r"]:
            rank = f"of {config['r']}, the r of {ADAPTER_CONFIG_FILE}, in dimension {inner}"
            raise _fault(name, tensor, f"is of shape {list(stored.shape)}", rank)


def _fault(name: str, tensor: str, found: str, allowed: str) -> DataError:
    tensor = shown(tensor)[1:-1]
    return DataError(f"{name}: tensor {tensor} {found}, must be {allowed}; export it again")
