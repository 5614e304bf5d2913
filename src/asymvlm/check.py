"""Verify a scorer directory against docs/checkpoint-format.md: `python -m asymvlm.check DIR`.

Needs json and safetensors alone.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open

FORMAT = "asymvlm-scorer"
FORMAT_VERSION = 1
CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
CARD_FILE = "README.md"
ADAPTER_FOLDER = "adapter"
ADAPTER_CONFIG_FILE = "adapter_config.json"
ADAPTER_WEIGHTS_FILE = "adapter_model.safetensors"
# All that a scorer directory has of the format; other files in it are their owners'.
OWN_ENTRIES = (CONFIG_FILE, WEIGHTS_FILE, CARD_FILE, ADAPTER_FOLDER)

_CONTEXT: dict[str, tuple[int | str, ...]] = {
    "context.filter.weight": ("C", 1, 3, 3),
    "context.filter.bias": ("C",),
    "context.place.weight": ("C", 12),
}
# Tensor names and shapes of every scorer kind; letters are arguments: D width, C rank or hidden.
# Scorer classes and docs/checkpoint-format.md are tested against them.
TENSORS: dict[str, dict[str, tuple[int | str, ...]]] = {
    "diagonal": {"weight": ("D",)},
    "low_rank": {
        "vision.weight": ("C", "D"), "text.weight": ("C", "D"), "prior.weight": (1, "C"),
        "prior.bias": (1,), **_CONTEXT,
    },
    "cross_attention": {
        "nothing": ("C",), "vision.weight": ("C", "D"), "vision.bias": ("C",),
        "text.weight": ("C", "D"), "text.bias": ("C",),
        "mix.weight": ("C", "C"), "mix.bias": ("C",), "mlp.0.weight": ("2C", "3C"),
        "mlp.0.bias": ("2C",),
        "mlp.2.weight": ("C", "2C"), "mlp.2.bias": ("C",), "score.0.weight": ("C",),
        "score.0.bias": ("C",),
        "score.1.weight": (1, "C"), "score.1.bias": (1,), **_CONTEXT,
    },
    "text_free": {
        "vision.weight": ("C", "D"), "vision.bias": ("C",), "score.1.weight": ("C", "C"),
        "score.1.bias": ("C",),
        "score.3.weight": (1, "C"), "score.3.bias": (1,), **_CONTEXT,
    },
    "vision_selector": {"query.weight": ("C", "D"), "key.weight": ("C", "D")},
}  # fmt: skip
BUDGET_TENSORS: dict[str, tuple[int | str, ...]] = {
    "text.weight": ("C", "D"), "text.bias": ("C",), "vision.weight": ("C", "D"),
    "vision.bias": ("C",),
    "words.weight": (1, "C"), "words.bias": (1,), "ratio.0.weight": ("2C", "2C+16"),
    "ratio.0.bias": ("2C",),
    "ratio.2.weight": (1, "2C"), "ratio.2.bias": (1,),
}  # fmt: skip
_FIXED = {"polarity": "higher_keeps", "rounding": "half_up_at_least_one", "budget_scope": "sample"}


def is_scorer(directory: Path) -> bool:
    """Whether a directory is a scorer checkpoint, by what its config.json says, whole or not."""
    try:
        config = json.loads((directory / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("format") == FORMAT


def problems(directory: Path) -> list[str]:
    """List what is wrong with a checkpoint directory, a sentence each; empty where nothing is."""
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (directory / name).is_file():
            return [f"{name} is missing; give the folder that an export wrote"]
    try:
        config = json.loads((directory / CONFIG_FILE).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        return [f"{CONFIG_FILE} is not JSON ({error}); export it again"]
    return _config_problems(config) or _weight_problems(
        config, directory / WEIGHTS_FILE
    ) + _adapter_problems(config, directory)


def _config_problems(config: Any) -> list[str]:
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        return [f'{CONFIG_FILE}: "format" is not "{FORMAT}"; this is no scorer checkpoint']
    version = config.get("format_version")
    if not isinstance(version, int) or version < 1:
        return [f'{CONFIG_FILE}: "format_version" {version!r} is not a positive integer']
    if version > FORMAT_VERSION:
        return [
            f"{CONFIG_FILE}: format_version {version} is newer than {FORMAT_VERSION}, the newest "
            "known here; update asymvlm"
        ]
    found = [
        f"{CONFIG_FILE}: {key!r} is {config.get(key)!r}, must be {value!r}"
        for key, value in _FIXED.items()
        if config.get(key) != value
    ]
    scorer, inputs, budget = config.get("scorer"), config.get("input"), config.get("budget")
    if (
        not isinstance(scorer, dict)
        or not isinstance(scorer.get("kind"), str)
        or not isinstance(scorer.get("arguments"), dict)
    ):
        return [*found, f"{CONFIG_FILE}: 'scorer' must hold 'kind' and 'arguments'"]
    found += _size_problems("scorer.arguments", scorer["arguments"])
    if not isinstance(inputs, dict) or inputs.get("width") != scorer["arguments"].get("width"):
        found.append(f"{CONFIG_FILE}: 'input.width' must equal 'scorer.arguments.width'")
    if "budget" not in config or (
        budget is not None
        and (not isinstance(budget, dict) or not isinstance(budget.get("arguments"), dict))
    ):
        found.append(f"{CONFIG_FILE}: 'budget' must be null or hold 'arguments'")
    elif budget is not None:
        found += _size_problems("budget.arguments", budget["arguments"])
    masked = config.get("masked_ids")
    if not isinstance(masked, list) or not all(isinstance(item, int) for item in masked):
        found.append(f"{CONFIG_FILE}: 'masked_ids' must be a list of token ids")
    return found


def _size_problems(where: str, arguments: dict[str, Any]) -> list[str]:
    names = ["width", *(name for name in ("rank", "hidden", "heads") if name in arguments)]
    sizes = {name: arguments.get(name) for name in names}
    return [
        f"{CONFIG_FILE}: '{where}.{name}' is {size!r}, must be a positive integer"
        for name, size in sizes.items()
        if not isinstance(size, int) or isinstance(size, bool) or size < 1
    ]


def _weight_problems(config: dict[str, Any], path: Path) -> list[str]:
    try:
        tensors = _tensors(path)
    except _UNREADABLE as error:
        return [f"{path.name} is truncated or corrupt ({error}); export or copy it again"]
    found = _value_problems(path.name, tensors, ("F32",))
    kind = config["scorer"]["kind"]
    if kind not in TENSORS:
        return found  # a kind of a newer release, or a user's own; the loader knows it or says so
    expected = _expected("scorer", TENSORS[kind], config["scorer"]["arguments"])
    if config["budget"] is not None:
        expected |= _expected("budget", BUDGET_TENSORS, config["budget"]["arguments"])
    found += [f"{path.name}: tensor {name} is missing" for name in expected.keys() - tensors.keys()]
    found += [
        f"{path.name}: tensor {name} is not part of the format"
        for name in tensors.keys() - expected.keys()
    ]
    found += [
        f"{path.name}: tensor {name} has shape {tensors[name].shape}, {CONFIG_FILE} asks for "
        f"{expected[name]}"
        for name in expected.keys() & tensors.keys()
        if tensors[name].shape != expected[name]
    ]
    return sorted(found)


def _adapter_problems(config: dict[str, Any], directory: Path) -> list[str]:
    named = config.get("adapter")
    if named is None:
        return []
    if named != ADAPTER_FOLDER:
        return [f"{CONFIG_FILE}: 'adapter' is {named!r}, must be {ADAPTER_FOLDER!r} or left out"]
    missing = [
        name
        for name in (ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE)
        if not (directory / named / name).is_file()
    ]
    if missing:
        return [
            f"{named}/{name} is missing; copy the whole folder, or export it again"
            for name in missing
        ]
    file = f"{named}/{ADAPTER_WEIGHTS_FILE}"
    try:
        tensors = _tensors(directory / file)
    except _UNREADABLE as error:
        return [f"{file} is truncated or corrupt ({error}); export or copy it again"]
    return _value_problems(file, tensors, ("F32", "F16", "BF16"))


_UNREADABLE = (SafetensorError, OSError, ValueError)


class _Stored(NamedTuple):
    """A tensor in a file."""

    dtype: str
    shape: tuple[int, ...]
    is_finite: bool


def _tensors(path: Path) -> dict[str, _Stored]:
    """Read the tensors of a safetensors file by name.

    Raises what `_UNREADABLE` names.
    """
    with safe_open(path, framework="np") as file:
        shapes = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - no dict
        described = {
            name: (item.get_dtype(), tuple(item.get_shape())) for name, item in shapes.items()
        }
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    places = json.loads(content[8:start])
    tensors = {}
    for name, (dtype, shape) in described.items():
        begin, end = places[name]["data_offsets"]
        numbers = memoryview(content)[start + begin : start + end]
        tensors[name] = _Stored(dtype, shape, _is_finite(dtype, numbers))
    return tensors


def _is_finite(dtype: str, content: memoryview) -> bool:
    """Whether all floating numbers in a buffer are finite; True for others."""
    if dtype == "BF16":  # which numpy has not: the upper half of an F32
        return bool(((np.frombuffer(content, "<u2") & 0x7F80) != 0x7F80).all())
    numbers = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}.get(dtype)
    return numbers is None or bool(np.isfinite(np.frombuffer(content, numbers)).all())


def _value_problems(file: str, tensors: dict[str, _Stored], dtypes: tuple[str, ...]) -> list[str]:
    return [
        f"{file}: tensor {name} is of {tensor.dtype}, must be of {' or '.join(dtypes)}; export it "
        "again"
        for name, tensor in sorted(tensors.items())
        if tensor.dtype not in dtypes
    ] + [
        f"{file}: tensor {name} holds values that are not finite; train and export it again"
        for name, tensor in sorted(tensors.items())
        if not tensor.is_finite
    ]


def _expected(
    part: str, tensors: dict[str, tuple[int | str, ...]], arguments: dict[str, Any]
) -> dict[str, tuple[int, ...]]:
    inner = arguments.get("rank", arguments.get("hidden", 0))
    sizes = {
        "D": arguments["width"],
        "C": inner,
        "2C": 2 * inner,
        "3C": 3 * inner,
        "2C+16": 2 * inner + 16,
    }
    return {
        f"{part}.{name}": tuple(sizes[size] if isinstance(size, str) else size for size in shape)
        for name, shape in tensors.items()
    }


def main(arguments: list[str]) -> int:
    """Check a directory and print a line a problem.

    Exit code 0 where there is none, 1 for a bad directory, 2 for a wrong call.
    """
    if len(arguments) != 1:
        print("usage: asymvlm check DIRECTORY", file=sys.stderr)
        return 2
    directory = Path(arguments[0])
    found = problems(directory) if directory.is_dir() else ["no such directory"]
    for problem in found:
        print(f"{directory}: {problem}", file=sys.stderr)
    if not found:
        kind = json.loads((directory / CONFIG_FILE).read_text(encoding="utf-8"))["scorer"]["kind"]
        print(f"{directory}: a valid {FORMAT} checkpoint, format version {FORMAT_VERSION}")
        if kind not in TENSORS:
            print(
                f"names and shapes of its tensors were not checked: {kind!r} is no kind of this "
                "version"
            )
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
