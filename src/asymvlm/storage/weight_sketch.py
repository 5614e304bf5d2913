"""Sketches of weights: a few values of each tensor, to tell models apart.

Every tensor is hashed by its shape and four of its values, and the smallest hashes make the sketch:
the share of them that two sketches have in common estimates the share of equal tensors (Broder,
"On the resemblance and containment of documents", 1997). It does not depend on names, shards or
folders, and hardly on the number type.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from safetensors import safe_open
from torch import Tensor, nn

from .weights_fingerprint import weights_fingerprint

_VALUES = 4
_HASHES = 64
_FLOATS = ("F64", "F32", "F16", "BF16")
_SAME = 0.5  # of the hashes; unrelated weights share those of constant tensors alone
_known: WeakKeyDictionary[nn.Module, tuple[int, str]] = WeakKeyDictionary()


def sketch_of_model(model: nn.Module) -> str:
    """Sketch the weights of a model as they are in memory; empty where none are there."""
    found = [
        parameter.detach()
        for name, parameter in model.named_parameters()
        if parameter.is_floating_point() and not parameter.is_meta and "lora_" not in name
    ]
    changed = hash(
        tuple((item.data_ptr(), 0 if item.is_inference() else item._version) for item in found)
    )
    before, sketch = _known.get(model, (None, ""))
    if before != changed:
        sketch = _smallest(_hashes(found))
        _known[model] = changed, sketch
    return sketch


def sketch_of_files(path: str) -> str:
    """Sketch the safetensors files of a directory; empty where there are none."""
    files = sorted(Path(path).glob("[!.]*.safetensors")) if path and Path(path).is_dir() else []
    return _of_files(tuple((file, file.stat().st_mtime_ns) for file in files))


@functools.cache
def _of_files(files: tuple[tuple[Path, int], ...]) -> str:
    hashes: set[str] = set()
    for file, _ in files:
        with safe_open(file, "pt") as stored:
            for name in stored.keys():  # noqa: SIM118
                part = stored.get_slice(name)
                if part.get_dtype() in _FLOATS and 0 not in part.get_shape():
                    hashes.add(_digest(part.get_shape(), _values_of_slice(part)))
    return _smallest(hashes)


def _values_of_slice(part: Any) -> list[float]:
    """Read the values that are hashed, and no more, from a file."""
    shape = part.get_shape()
    values = []
    for place in _places(math.prod(shape)):
        index = []
        for size in reversed(shape):
            place, within = divmod(place, size)
            index.append(slice(within, within + 1))
        value = part[tuple(reversed(index))] if shape else part[...]
        values.append(value.reshape(-1)[0].to(torch.bfloat16).item())
    return values


def _places(count: int) -> list[int]:
    return [number * (count - 1) // (_VALUES - 1) for number in range(_VALUES)]


def differs(made_for: Mapping[str, str], model: Any) -> bool:
    """Return whether a model's weights are others than those that something was made for.

    `made_for` has a `sketch`, or in older files the fingerprint of the `weights` files alone.
    """
    if made_for.get("sketch"):
        own = sketch_of_model(model)
        return bool(own) and not same_weights(own, made_for["sketch"])
    path = str(getattr(model, "name_or_path", ""))
    comes_from_a_repository = bool(path) and not Path(path).is_dir()
    if not made_for.get("weights") or comes_from_a_repository:
        return False
    if weights_fingerprint(path) != made_for["weights"]:
        return True
    # The files are those; the model may have changed since it was loaded.
    stored = sketch_of_files(path)
    return bool(stored) and not same_weights(sketch_of_model(model), stored)


def same_weights(first: str, second: str) -> bool:
    """Return whether two sketches are those of the same weights, perhaps of other number types."""
    left, right = set(first.split()), set(second.split())
    smallest = sorted(left | right)[:_HASHES]
    return sum(item in left and item in right for item in smallest) >= _SAME * len(smallest)


def _smallest(hashes: set[str]) -> str:
    return " ".join(sorted(hashes)[:_HASHES])


def _hashes(tensors: Iterable[Tensor]) -> set[str]:
    shapes, values = [], []
    for tensor in tensors:
        if tensor.numel() == 0:
            continue
        places = torch.tensor(_places(tensor.numel()), device=tensor.device)
        shapes.append(list(tensor.shape))
        values.append(tensor.reshape(-1)[places].to("cpu", torch.bfloat16))
    return {_digest(shape, value.tolist()) for shape, value in zip(shapes, values, strict=True)}


def _digest(*content: Any) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:8]
