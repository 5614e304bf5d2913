"""Hold a JSON file against its keys."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ..errors import DataError
from .own_kinds import own_kinds
from .rules import reason, shown
from .schema import CLOSED, CONFIG_FILE, KEYS, KINDS, Key

_ABSENT = object()


def read_json(path: Path, name: str) -> Any:
    """Read a JSON file strictly.

    Raises DataError for what readers take in different ways: byte order marks, keys that are there
    twice, numbers that are not finite.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{name} cannot be read ({reason(error)}); copy it again") from None
    if content.startswith(b"\xef\xbb\xbf"):
        raise DataError(
            f"{name} begins with a byte order mark, must be plain UTF-8; save it as that"
        )
    twice: list[tuple[str, Any, Any]] = []

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                twice.append((key, found[key], value))
            found[key] = value
        return found

    try:
        config = json.loads(content.decode("utf-8"), object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name} is not JSON ({reason(error)}); export the scorer again") from None
    if twice:
        key, first, second = twice[0]
        raise DataError(
            f"{name}: {shown(key)} is both {shown(first)} and {shown(second)}, must be there once; "
            "take one of them out"
        )
    return config


def check_config(config: Any, name: str = CONFIG_FILE) -> None:
    """Raise DataError for the first key of a scorer's config that is not as the schema has it."""
    check_keys(config, KEYS, name)
    kind, arguments = config["scorer"]["kind"], config["scorer"]["arguments"]
    if kind in KINDS:
        found = {
            f"scorer.arguments.{argument}": key for argument, key in KINDS[kind].arguments.items()
        }
        check_keys(config, found, name)
        _check_closed(config, KEYS | found, name)
        return
    known = own_kinds()
    if kind not in known:
        listed = ", ".join(shown(one) for one in sorted({*KINDS, *known}))
        raise DataError(
            f"{name}: scorer.kind is {shown(kind)}, must be one of {listed}; update asymvlm, or "
            "put the file of its class into asymvlm/scorers"
        )
    try:
        known[kind](arguments)
    except Exception as error:
        # A class of anybody's: whatever its constructor makes of arguments that it does not take.
        raise DataError(
            f"{name}: scorer.arguments is {shown(arguments)}, must be what {kind} takes "
            f"({reason(error)}); export the scorer again"
        ) from None
    _check_closed(config, KEYS, name, CLOSED[1:])


def check_keys(config: Any, keys: dict[str, Key], name: str) -> None:
    """Raise DataError for the first of `keys` that is wrong, or missing."""
    if not isinstance(config, dict):
        raise DataError(f"{name} is {shown(config)}, must be an object; export the scorer again")
    for path, key in keys.items():
        holder = _value(config, path.rpartition(".")[0])
        if not isinstance(holder, dict):
            # Null, or an optional one that is not there: whatever else has been refused.
            continue
        value = holder.get(path.rpartition(".")[2], _ABSENT)
        if value is _ABSENT:
            if key.optional:
                continue
            raise _fault(name, path, "missing", key.rule.allowed, key.fix)
        if not key.rule.holds(value):
            left_out = " or left out" if key.optional else ""
            raise _fault(name, path, shown(value), key.rule.allowed + left_out, key.fix)
        _check_relations(config, path, key, name)
    for path, value in _numbers(config):
        if not math.isfinite(value):
            raise _fault(name, path, shown(value), "a finite number", "write null in its place")


def _check_relations(config: dict[str, Any], path: str, key: Key, name: str) -> None:
    value = _value(config, path)
    if key.equals is not None and value != _value(config, key.equals):
        other = f"{shown(_value(config, key.equals))}, which {key.equals} is"
        raise _fault(name, path, shown(value), other, key.fix)
    if key.divides is not None and _value(config, key.divides) % value:
        whole = f"a divisor of {shown(_value(config, key.divides))}, which {key.divides} is"
        raise _fault(name, path, shown(value), whole, key.fix)


def _check_closed(
    config: dict[str, Any], keys: dict[str, Key], name: str, closed: tuple[str, ...] = CLOSED
) -> None:
    for path in closed:
        known = [key.rpartition(".")[2] for key in keys if key.rpartition(".")[0] == path]
        for argument, value in (_value(config, path) or {}).items():
            if argument not in known:
                raise _fault(
                    name,
                    f"{path}.{shown(argument)[1:-1]}",
                    shown(value),
                    f"left out: {path} has {', '.join(known)}",
                    "export the scorer again",
                )


def _fault(name: str, path: str, value: str, allowed: str, fix: str) -> DataError:
    return DataError(f"{name}: {path} is {value}, must be {allowed}; {fix}")


def _value(config: Any, path: str) -> Any:
    """Follow a path; None where it ends before."""
    for part in path.split(".") if path else []:
        config = config.get(part) if isinstance(config, dict) else None
    return config


def _numbers(config: Any) -> Iterator[tuple[str, float]]:
    """Give all numbers with a fraction or an exponent, and their paths."""
    waiting: list[tuple[str, Any]] = [("", config)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, float):
            yield path, value
        children: Iterable[tuple[Any, Any]] = ()
        if isinstance(value, dict):
            children = value.items()
        elif isinstance(value, list | tuple):
            children = enumerate(value)
        waiting += [(f"{path}.{shown(str(key))[1:-1]}".lstrip("."), one) for key, one in children]
