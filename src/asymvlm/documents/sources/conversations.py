"""LLaVA's JSON: every answer that follows a question is one sample."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from ...errors import DataError
from .records import PageTable


def add_conversations(table: PageTable, file: Path) -> None:
    """Read `[{"image" or "images", "conversations": [{"from", "value"}, ...]}, ...]`.

    Raises DataError for other JSON.
    """
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"data.path: {file} is no JSON ({error})") from error
    if not isinstance(entries, list):
        raise DataError(
            f"data.path: {file} must hold a list of conversations, as LLaVA's JSON does"
        )
    for number, entry in enumerate(entries, start=1):
        name = f"{file.name}:{number}"
        turns = entry.get("conversations") if isinstance(entry, dict) else None
        if not isinstance(turns, list) or len(turns) < 2:
            table.report.skip(name, "has no conversations")
            continue
        about = {key: entry[key] for key in ("image", "images") if key in entry}
        table.add_all(({**about, **asked} for asked in _asked(turns)), name)


def _asked(turns: list[Any]) -> Iterator[dict[str, Any]]:
    history: list[list[str]] = []
    for question, answer in pairwise(turns):
        if question.get("from") in ("human", "user") and answer.get("from") in ("gpt", "assistant"):
            said = [
                str(question.get("value")).replace("<image>", "").strip(),
                str(answer.get("value")).strip(),
            ]
            yield {"question": said[0], "answers": [said[1]], "history": list(history)}
            history.append(said)
