"""LLaVA's JSON: every answer that follows a question is one sample."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from ...errors import DataError
from .lines import read_bytes
from .records import FileRecords

_ASKS, _ANSWERS = ("human", "user"), ("gpt", "assistant")


def add_conversations(records: FileRecords, file: Path) -> None:
    """Read `[{"image" or "images", "conversations": [{"from", "value"}, ...]}, ...]`.

    Raises DataError for other JSON.
    """
    try:
        entries = json.loads(read_bytes(file).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"path: {file} is no JSON ({error})") from error
    if not isinstance(entries, list):
        raise DataError(f"path: {file} must hold a list of conversations, as LLaVA's JSON does")
    for number, entry in enumerate(entries, start=1):
        name = f"{file.name}:{number}"
        try:
            turns = _turns(entry)
        except ValueError as error:
            records.table.report.skip(name, str(error), str(file))
            continue
        about = {key: entry[key] for key in ("image", "images") if key in entry}
        records.add_all(({**about, **question} for question in _questions(turns)), name, file)


def _turns(entry: Any) -> list[tuple[str, str]]:
    """Take who says what from an entry; raises ValueError for another form."""
    turns = entry.get("conversations") if isinstance(entry, dict) else None
    if not isinstance(turns, list) or len(turns) < 2:
        raise ValueError("has no conversations")
    for place, turn in enumerate(turns, start=1):
        if not isinstance(turn, dict) or not all(
            isinstance(turn.get(key), str) for key in ("from", "value")
        ):
            raise ValueError(f"turn {place} is no object with texts from and value")
    return [(turn["from"], turn["value"].replace("<image>", "").strip()) for turn in turns]


def _questions(turns: list[tuple[str, str]]) -> Iterator[dict[str, Any]]:
    history: list[list[str]] = []
    for (asks, question), (answers, answer) in pairwise(turns):
        if asks in _ASKS and answers in _ANSWERS:
            yield {"question": question, "answers": [answer], "history": list(history)}
            history.append([question, answer])
