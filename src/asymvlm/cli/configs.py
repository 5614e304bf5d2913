"""Configurations and the tiny teacher of the package, by name or by path."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence
from pathlib import Path

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
    if path.is_file():
        _check_settings(path)
        return path
    inner = Path(*path.parts[1:]) if path.parts[:1] == ("configs",) else path
    found = bundled(Path("configs") / inner.with_suffix(".yaml"))
    if found is None:
        names = _names()
        close = difflib.get_close_matches(str(inner.with_suffix("")), names, 3, 0.5) or names
        raise ValueError(
            f"--config: {name} is no file, and none of the package's configurations, such as "
            f"{', '.join(close)}"
        )
    return found


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
    """Resolve every `--config` of a command line; `default` is taken where there is none."""
    found: list[str] = []
    names = 0
    for place, argument in enumerate(arguments):
        flag, equals, value = argument.partition("=")
        if flag in _FLAGS and equals:
            argument = f"{flag}={find_config(value)}"
        elif place and arguments[place - 1] in _FLAGS:
            argument = str(find_config(argument))
        names += flag in _FLAGS
        found.append(argument)
    return found if names or default is None else ["--config", str(find_config(default)), *found]


def bundled(path: Path) -> Path | None:
    """Find a file or folder of the repository, in a wheel or in a checkout."""
    for root in _ROOTS:
        if (root / path).exists():
            return root / path
    return None


def _check_settings(path: Path) -> None:
    """Raise ValueError, in one line, for a file that is no YAML of settings."""
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"--config: {path} is no YAML: {reason}") from None
    if not isinstance(settings, dict):
        raise ValueError(
            f"--config: {path} holds no settings but {settings!r:.40}; write them as `key: value`"
        )


def _names() -> list[str]:
    folder = bundled(Path("configs"))
    if folder is None:
        return []
    return sorted(str(file.relative_to(folder).with_suffix("")) for file in folder.rglob("*.yaml"))
