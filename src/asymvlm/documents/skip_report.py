"""Records that cannot be used: skipped, counted, named."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ..storage.atomic import draft_file

SKIPPED_FILE = "skipped.jsonl"


class Skipped(NamedTuple):
    """One record that cannot be used."""

    name: str  # file and line, or row
    reason: str
    file: str = ""  # where the record stands, as a path; empty for rows of a dataset


@dataclass
class SkipReport:
    """Records that could not be used, and how many could."""

    skipped: list[Skipped] = field(default_factory=list)
    used: int = 0
    # Name and file of each usable record, by its page's id and its place on the page.
    origins: dict[tuple[str, int], tuple[str, str]] = field(default_factory=dict)

    def skip(self, name: str, reason: str, file: str = "") -> None:
        """Note a record once, however often it is met."""
        found = Skipped(name, reason.splitlines()[0] if reason else "cannot be used", file)
        if found not in self._known:
            self._known.add(found)
            self.skipped.append(found)

    def __post_init__(self) -> None:
        self._known = set(self.skipped)

    def skip_page(self, page: str, questions: Sequence[dict[str, Any]], reason: str) -> None:
        """Note all records of a page that turned out unusable."""
        for place, question in enumerate(questions):
            name, file = self.origins.get((page, place), (question["id"], ""))
            self.skip(name, reason, file)

    def lines(self, most: int = 10) -> list[str]:
        """Report skipped records; empty where nothing was skipped."""
        if not self.skipped:
            return []
        head = f"skipped {len(self.skipped)} of {len(self.skipped) + self.used} records:"
        lines = [f"  {item.name}: {item.reason}" for item in self.skipped[:most]]
        more = len(self.skipped) - most
        return [head, *lines, *([f"  and {more} more"] if more > 0 else [])]

    @classmethod
    def read(cls, folder: Path) -> SkipReport:
        """Read what `write` has written; empty where there is nothing."""
        place = folder / SKIPPED_FILE
        lines = place.read_text(encoding="utf-8").splitlines() if place.is_file() else []
        return cls([Skipped(**json.loads(line)) for line in lines])

    def write(self, folder: Path) -> Path | None:
        """Write `skipped.jsonl` into a folder, a line a record; nothing where none was skipped."""
        place = folder / SKIPPED_FILE
        if not self.skipped:
            return None
        folder.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps(item._asdict(), ensure_ascii=False) for item in self.skipped]
        with draft_file(place) as draft:
            draft.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return place
