"""Fingerprints by content: for keys of caches, and to say what differs.

A description is made of plain values (dicts, lists, texts, numbers). Paths and names of files are
not in it, since they can change while the content stays, or stay while it changes.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import pickle
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor, nn
from transformers import AutoConfig, GenerationConfig

from .. import __version__
from ..errors import DataError
from .weights_fingerprint import weights_fingerprint

# Of loaded settings: where they were loaded from, and who wrote them.
_TORCH_OWN = {"training", *vars(nn.Module())}
# Folders of libraries, which may lie in a user's own.
_INSTALLED = {"site-packages", "dist-packages"}
_NOT_CONTENT = {"_name_or_path", "name_or_path", "transformers_version", "_commit_hash"}


def key_of(description: Any) -> str:
    """Hash a description to a short text, the same on any machine."""
    return digest(json.dumps(description, sort_keys=True).encode())


def digest(content: bytes) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256."""
    return hashlib.sha256(content).hexdigest()[:16]


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """List what has changed between two descriptions, as `dotted.name: old -> new`."""
    old, new = flat(then), flat(now)
    names = sorted(old.keys() | new.keys())
    changed = [name for name in names if old.get(name) != new.get(name)]
    return [f"{name}: {old.get(name, 'nothing')} -> {new.get(name, 'nothing')}" for name in changed]


def flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested values to dotted names, as the command line writes them."""
    values: dict[str, Any] = {}
    for key, value in nested.items():
        name = prefix if key == "init_args" else f"{prefix}.{key}".lstrip(".")
        values |= flat(value, name) if isinstance(value, dict) and value else {name: value}
    return values


def describe_teacher(path: str, processor: Any) -> dict[str, Any]:
    """Describe the VLM at `path` and its processor: all that targets depend on."""
    config = AutoConfig.from_pretrained(path, trust_remote_code=False)
    commit = None if Path(path).is_dir() else getattr(config, "_commit_hash", None)
    if commit is None and not Path(path).is_dir():
        raise DataError(
            f"{path}: its commit on the Hub is not known, and the name alone may stand for other "
            "weights tomorrow; download it and name the folder"
        )
    try:
        generation = GenerationConfig.from_pretrained(path).to_dict()
    except OSError:
        generation = {}
    return {
        "weights": weights_fingerprint(path),
        "commit": commit,
        "config": describe(config.to_dict()),
        "generation": describe(generation),
        **describe_processor(processor),
    }


def describe_processor(processor: Any) -> dict[str, Any]:
    """Describe all that prompts depend on: settings, template, tokenizer and versions."""
    tokenizer = processor.tokenizer
    template = getattr(processor, "chat_template", None) or getattr(tokenizer, "chat_template", "")
    backend = getattr(tokenizer, "backend_tokenizer", None)
    spelling: Any = tokenizer.get_vocab() if backend is None else json.loads(backend.to_str())
    # How the newest call padded and cut, which the next one sets anew.
    spelling = {key: item for key, item in spelling.items() if key not in ("padding", "truncation")}
    return {
        "processor": describe(processor.to_dict()),
        "chat_template": digest(repr(template).encode()),
        "tokenizer": key_of(spelling),
        "special_tokens": describe(
            {key: str(item) for key, item in tokenizer.special_tokens_map.items()}
        ),
        "versions": {"asymvlm": __version__, "transformers": transformers.__version__},
    }


def describe_model(model: Any) -> dict[str, Any]:
    """Describe a loaded VLM: weights as they are in memory, and how it computes."""
    return {
        "weights": key_of({name: describe(item) for name, item in model.state_dict().items()}),
        "class": _code(type(model)),
        "config": describe(model.config.to_dict()),
        "generation": describe(model.generation_config.to_dict()),
        "dtype": str(model.dtype),
        "attention": str(getattr(model.config, "_attn_implementation", None)),
    }


def describe(value: Any) -> Any:
    """Describe anything as plain values: settings, weights, users' objects with their code.

    Of an object all attributes count, but those that its class lists in `state`, which change while
    it works, and cached properties, which are taken by their values.
    """
    return _described(value, ())


def _described(value: Any, within: tuple[int, ...]) -> Any:
    """Describe a value; `within` are the objects that it is part of, to end references to them."""
    if isinstance(value, str | int | float | bool | None):
        return value
    if id(value) in within:
        return ["part of", within.index(id(value))]
    within = (*within, id(value))
    if isinstance(value, Mapping):
        kept = {str(key): item for key, item in value.items() if key not in _NOT_CONTENT}
        return {key: _described(item, within) for key, item in kept.items()}
    if isinstance(value, list | tuple):
        return [_described(item, within) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((_described(item, within) for item in value), key=repr)
    if isinstance(value, Tensor):
        return ["tensor", str(value.dtype), list(value.shape), _digest_of(value)]
    if isinstance(value, np.ndarray):
        content = np.ascontiguousarray(value).tobytes()
        return ["array", str(value.dtype), list(value.shape), digest(content)]
    if isinstance(value, Path):
        return _files(value)
    if isinstance(value, type | types.FunctionType | types.MethodType):
        return _code(value)
    if isinstance(value, functools.partial):
        return [_described(part, within) for part in (value.func, value.args, value.keywords)]
    if isinstance(value, torch.Generator):
        return ["generator", value.initial_seed()]
    if isinstance(value, nn.Module):
        weights = _described(value.state_dict(), within)
        return [_code(type(value)), weights, _described(_attributes(value), within)]
    if hasattr(value, "__dict__"):
        return [_code(type(value)), _described(_attributes(value), within)]
    return [type(value).__qualname__, _pickled(value)]


def _attributes(value: Any) -> dict[str, Any]:
    classes = type(value).__mro__
    lazy = {
        name
        for cls in classes
        for name, attribute in vars(cls).items()
        if isinstance(attribute, functools.cached_property)
    }
    changing = {name for cls in classes for name in vars(cls).get("state", ())}
    settings = vars(value) | {name: getattr(value, name) for name in lazy}
    if isinstance(value, nn.Module):
        # Weights and submodules are described by the state, the rest of torch's own is no setting.
        changing |= {name for name in settings if name in _TORCH_OWN}
    return {name: settings[name] for name in sorted(settings) if name not in changing}


def _code(value: Any) -> list[str]:
    """Full name of a class or a function, and a digest of the files it is written in."""
    classes = inspect.getmro(value) if isinstance(value, type) else (value,)
    own = [
        cls
        for cls in classes
        if cls.__module__ not in ("builtins", "abc", "typing", "torch.nn.modules.module")
    ]
    return [f"{value.__module__}.{value.__qualname__}", digest(b"".join(map(_source, own)))]


@functools.cache
def _source(value: Any) -> bytes:
    """The file that a class or a function is written in, or what it was compiled to."""
    try:
        file = inspect.getsourcefile(value)
        if file is not None and Path(file).is_file():
            beside = _imported_beside(value.__module__, Path(file).parent)
            return b"".join(Path(item).read_bytes() for item in [file, *beside])
    except (OSError, TypeError):
        pass
    parts = vars(value).values() if isinstance(value, type) else [value]
    codes = [part.__code__ for part in parts if isinstance(part, types.FunctionType)]
    return repr(
        [(code.co_name, code.co_code, code.co_names, code.co_consts) for code in codes]
    ).encode()


def _imported_beside(module: str, folder: Path) -> list[str]:
    """List the files in `folder` and below that a module imports, itself or through others.

    Of this package's own modules none: their versions are known.
    """
    found: set[str] = set()
    waiting = [] if module.startswith(f"{__package__.partition('.')[0]}.") else [module]
    while waiting:
        own = vars(sys.modules.get(waiting.pop(), types.ModuleType("none")))
        for value in list(own.values()):
            is_module = isinstance(value, types.ModuleType)
            name = str(value.__name__ if is_module else getattr(value, "__module__", None))
            file = str(getattr(sys.modules.get(name), "__file__", None) or "")
            if file not in found and _is_own(Path(file), folder):
                found.add(file)
                waiting.append(name)
    return sorted(found)


def _is_own(file: Path, folder: Path) -> bool:
    """Return whether a file lies in a folder, and not in a library there."""
    return folder in file.parents and _INSTALLED.isdisjoint(file.relative_to(folder).parts)


def _pickled(value: Any) -> str:
    try:
        return digest(pickle.dumps(value))
    except Exception:  # whatever an object that cannot be written says
        return repr(value)


def _digest_of(value: Tensor) -> str:
    plain = value.detach().cpu().contiguous()
    return digest(
        plain.view(torch.uint8).numpy().tobytes() if plain.ndim else repr(plain.item()).encode()
    )


def _files(place: Path) -> dict[str, str]:
    found = (
        [place] if place.is_file() else sorted(file for file in place.rglob("*") if file.is_file())
    )
    return {
        file.name if file == place else str(file.relative_to(place)): digest(file.read_bytes())
        for file in found
    }
