"""Configurations and the tiny teacher of the package, by name or by path."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

_PACKAGE = Path(__file__).parent.parent
# Where the repository's files lie: in a wheel, or in a checkout.
_ROOTS = (_PACKAGE / "bundled", _PACKAGE.parent.parent)
_FLAGS = ("--config", "-c")


def find_config(name: str | Path) -> Path:
    """Find a configuration by path, or one of the package's by name: `tiny`, `eval/quick`.

    A file that exists at the path goes before the package's. Raises ValueError where there is none,
    and for a file that is no YAML of settings.
    """
    path = Path(name)
    if os.path.isfile(path):
        _settings(path)
        return path
    named = path.relative_to("configs") if path.is_relative_to("configs") else path
    found = _packaged().get(str(named).removesuffix(".yaml"))
    if found is not None:
        return found
    why = f"{name} is no file and no name of the package's configurations" if str(name) else "empty"
    raise ValueError(f"--config: {why}; {_hint(named)}")


def find_model(path: str) -> str:
    """Resolve a model's path; the packaged tiny teacher's, where it is not in this folder."""
    if Path(path).exists() or not path.startswith("checkpoints/tiny-teacher"):
        return path
    found = bundled(Path(path))
    if found is None:
        return path
    print(f"note: there is no {path} in this folder; the package's own is taken", file=sys.stderr)
    return str(found)


def with_configs(arguments: Sequence[str], default: str | None = None) -> list[str]:
    """Resolve every `--config` of a command line; `default` is taken where there is none.

    Files without settings are left out: parsers take them for something else than YAML.
    """
    found: list[str] = []
    is_named = False
    rest = iter(arguments)
    for argument in rest:
        flag, equals, value = argument.partition("=")
        if flag not in _FLAGS:
            found.append(argument)
            continue
        is_named = True
        name = value if equals else next(rest, None)
        found += ["--config"] if name is None else _flags_of(find_config(name))
    return found if is_named or default is None else [*_flags_of(find_config(default)), *found]


def bundled(path: Path) -> Path | None:
    """Find a file or folder of the repository, in a wheel or in a checkout."""
    for root in _ROOTS:
        if (root / path).exists():
            return root / path
    return None


def _flags_of(config: Path) -> list[str]:
    return ["--config", str(config)] if _settings(config) else []


def _settings(path: Path) -> dict[str, Any]:
    """Read a file's settings; none where nothing is in it but comments.

    Raises ValueError, in one line, for a file that is no YAML of settings.
    """
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"--config: {path} is no YAML: {reason}") from None
    if settings is not None and not isinstance(settings, dict):
        raise ValueError(
            f"--config: {path} holds {settings!r:.40} instead of settings; write them as "
            "`key: value`"
        )
    return settings or {}


def _packaged() -> dict[str, Path]:
    """Find the package's configurations by name."""
    folder = bundled(Path("configs"))
    if folder is None:
        return {}
    files = sorted(folder.rglob("*.yaml"))
    return {str(file.relative_to(folder)).removesuffix(".yaml"): file for file in files}


def _hint(named: Path) -> str:
    """Name the configurations that resemble `named`, else all; those in folders by their folder."""
    names = list(_packaged())
    close = [name for name in names if Path(name).name == named.name]
    close = close or difflib.get_close_matches(str(named), names, 3, 0.6)
    if close:
        return f"did you mean {' or '.join(close)}?"
    here = [name for name in names if "/" not in name]
    folders = dict.fromkeys(f"{name.partition('/')[0]}/..." for name in names if "/" in name)
    return f"give a YAML file, or one of {', '.join([*here, *folders])}"
