"""Hold a safetensors file against the tensors that it must have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open

from ..errors import DataError
from .own_kinds import Shapes, own_kinds
from .rules import reason, shown
from .schema import BUDGET_TENSORS, KINDS, WEIGHTS_FILE


class Stored(NamedTuple):
    """A tensor in a file; `content` is its bytes."""

    dtype: str
    shape: tuple[int, ...]
    content: memoryview


def read_tensors(path: Path, name: str) -> dict[str, Stored]:
    """Read the tensors of a safetensors file; raises DataError for one that is damaged."""
    try:
        with safe_open(path, framework="np") as file:
            slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118 - no dict
            described = {key: (one.get_dtype(), one.get_shape()) for key, one in slices.items()}
        content = memoryview(path.read_bytes())
        start = 8 + int.from_bytes(content[:8], "little")
        places = json.loads(bytes(content[8:start]))
        return {
            key: Stored(dtype, tuple(shape), content[start:][slice(*places[key]["data_offsets"])])
            for key, (dtype, shape) in described.items()
        }
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{name} is truncated, or no safetensors file ({reason(error)}); copy it again"
        ) from None


def check_shapes(config: dict[str, Any], found: Shapes, name: str = WEIGHTS_FILE) -> None:
    """Raise DataError for tensors other than those that a config, checked before, asks for."""
    expected = _expected(config)
    for tensor in sorted(expected.keys() | found.keys()):
        if tensor not in found:
            raise _fault(name, tensor, "is missing", f"of shape {list(expected[tensor])}")
        if tensor not in expected:
            raise _fault(
                name, tensor, "is there", "left out: it is not part of what the config describes"
            )
        if found[tensor] != expected[tensor]:
            shape = f"{list(expected[tensor])}, as the config has it"
            raise _fault(name, tensor, f"is of shape {list(found[tensor])}", shape)


def check_values(
    tensors: dict[str, Stored], dtypes: tuple[str, ...], name: str, largest: float
) -> None:
    """Raise DataError for a tensor of another number type, or with a number beyond `largest`."""
    for tensor, stored in sorted(tensors.items()):
        if stored.dtype not in dtypes:
            raise _fault(name, tensor, f"is of {stored.dtype}", f"of {' or '.join(dtypes)}")
        size = _largest(stored)
        if not size <= largest:
            allowed = f"finite and at most {largest:g} in size"
            raise _fault(
                name, tensor, f"holds {size:g}", allowed, "train and export the scorer again"
            )


def _largest(stored: Stored) -> float:
    """Find the largest magnitude of floating numbers; NaN where one is NaN."""
    if stored.dtype == "BF16":
        # Numpy has none: they are the upper halves of fp32 numbers.
        numbers = (np.frombuffer(stored.content, "<u2").astype("<u4") << 16).view("<f4")
    else:
        numbers = np.frombuffer(stored.content, {"F16": "<f2", "F32": "<f4"}[stored.dtype])
    return float(np.abs(numbers).max()) if numbers.size else 0.0


def _expected(config: dict[str, Any]) -> Shapes:
    kind, arguments = config["scorer"]["kind"], config["scorer"]["arguments"]
    if kind in KINDS:
        shapes = _sized(KINDS[kind].tensors, arguments)
    else:
        shapes = own_kinds()[kind](arguments)
    expected = {f"scorer.{name}": shape for name, shape in shapes.items()}
    if config["budget"] is not None:
        inner = _sized(BUDGET_TENSORS, config["budget"]["arguments"])
        expected |= {f"budget.{name}": shape for name, shape in inner.items()}
    return expected


def _sized(tensors: dict[str, tuple[int | str, ...]], arguments: dict[str, Any]) -> Shapes:
    inner = arguments.get("rank", arguments.get("hidden", 0))
    sizes = {
        "D": arguments["width"],
        "C": inner,
        "2C": 2 * inner,
        "3C": 3 * inner,
        "2C+16": 2 * inner + 16,
    }
    return {
        name: tuple(sizes[size] if isinstance(size, str) else size for size in shape)
        for name, shape in tensors.items()
    }


def _fault(
    name: str, tensor: str, found: str, allowed: str, fix: str = "copy or export it again"
) -> DataError:
    return DataError(f"{name}: tensor {shown(tensor)[1:-1]} {found}, must be {allowed}; {fix}")
