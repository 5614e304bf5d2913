"""Answers on disk, one line a question, so that an interrupted evaluation goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..drafts import draft_file
from ..methods import Method
from .answers import Answer


class RunLog:
    """The answers of one run. `key` names all that they depend on: a file with another key is started anew."""

    def __init__(self, path: Path, key: str) -> None:
        self.path = path
        self.answers: dict[str, Answer] = {}
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        if lines and lines[0] == key:
            self._read(lines[1:])
        # Written again without a last line that was torn in two.
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft_file(path) as draft:
            draft.write_text("\n".join([key, *map(_line, self.answers.values()), ""]), encoding="utf-8")

    def _read(self, lines: list[str]) -> None:
        for line in lines:
            try:
                one = Answer(**json.loads(line))
            except (json.JSONDecodeError, TypeError):
                return
            self.answers[one.id] = one

    def add(self, answers: Iterable[Answer]) -> None:
        """Keep answers that are not there yet; they are on disk when this returns."""
        new = [one for one in answers if one.id not in self.answers]
        self.answers |= {one.id: one for one in new}
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(_line(one) + "\n" for one in new)


def _line(one: Answer) -> str:
    return json.dumps(asdict(one))


def write_json(path: Path, what: Any) -> None:
    """Write a file, whole or not at all."""
    with draft_file(path) as draft:
        draft.write_text(json.dumps(what, indent=2) + "\n", encoding="utf-8")


def file_name(*parts: Any) -> str:
    """A name for the file of a run."""
    return re.sub(r"[^\w.-]+", "_", "@".join(str(part) for part in parts)) + ".jsonl"


def identity(thing: Any) -> str:
    """What a method, a teacher's weights or a setting is, as a short text that is the same in another process."""
    return hashlib.sha256(json.dumps(_plain(thing), sort_keys=True).encode()).hexdigest()[:16]


def _plain(thing: Any) -> Any:
    if isinstance(thing, nn.Module):
        return {name: hashlib.sha256(_bytes(value)).hexdigest() for name, value in thing.state_dict().items()}
    if isinstance(thing, dict):
        return {str(name): _plain(value) for name, value in thing.items() if not str(name).startswith("_")}
    if isinstance(thing, list | tuple):
        return [_plain(one) for one in thing]
    if isinstance(thing, str | int | float | bool | None):
        return thing
    if isinstance(thing, Method):
        lazy = {name for cls in type(thing).__mro__ for name, value in vars(cls).items() if isinstance(value, cached_property)}
        settings = vars(thing) | {name: getattr(thing, name) for name in lazy}  # whether they have been asked for yet or not
        return [type(thing).__module__, type(thing).__qualname__, _plain(settings)]
    if isinstance(thing, Path):
        files = [thing] if thing.is_file() else sorted(file for file in thing.rglob("*") if file.is_file())
        return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    return type(thing).__qualname__


def _bytes(value: torch.Tensor) -> bytes:
    return value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes() if value.ndim else repr(value.item()).encode()
