"""Answers on disk, one line a question, so that an evaluation can be resumed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..storage.atomic import draft_file
from ..storage.fingerprint import differences, key_of
from .answers import Answer

_LONGEST = 120  # bytes of a name in a file's name, which may have 255


class RunLog:
    """The answers of one run, in a file named by the key of all that they depend on.

    Answers of other runs under the same name stay beside it.

    Args:
        folder: Where the file is.
        name: What the run is called; it begins the file's name.
        about: All that the answers depend on, as `fingerprint.describe` puts it. The file's first
            line.

    Raises DataError for a file that was damaged.
    """

    def __init__(self, folder: Path, name: str, about: dict[str, Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        stem = re.sub(r"[^\w.-]+", "_", name).encode()[:_LONGEST].decode(errors="ignore")
        self.path = folder / f"{stem}-{key_of(about)}.jsonl"
        self.answers: dict[str, Answer] = {}
        if not self.path.exists():
            self._say_what_differs(name, stem, about)
        elif not self._read():
            return
        # Written anew, or again without a last line that was torn in two.
        with draft_file(self.path) as draft:
            lines = [json.dumps(about), *map(_line, self.answers.values()), ""]
            draft.write_text("\n".join(lines), encoding="utf-8")

    def _read(self) -> bool:
        """Read the answers of the file; returns whether its last line was torn."""
        try:
            head, *lines = self.path.read_text(encoding="utf-8").split("\n")
            json.loads(head)
            *whole, torn = lines or [""]
            found = [Answer(**json.loads(line)) for line in whole]
        except (ValueError, TypeError) as error:
            raise DataError(
                f"{self.path} is damaged ({error}); move it away, and its answers are given anew"
            ) from error
        self.answers = {item.key: item for item in found}
        return bool(torn)

    def _say_what_differs(self, name: str, stem: str, about: dict[str, Any]) -> None:
        others = [
            file
            for file in self.path.parent.glob("*.jsonl")
            if re.fullmatch(re.escape(stem) + "-[0-9a-f]{16}", file.stem)
        ]
        if not others:
            return
        newest = max(others, key=lambda file: file.stat().st_mtime_ns)
        with newest.open(encoding="utf-8") as file:
            changed = differences(json.loads(file.readline()), about)
        print(f"{name}: answered anew, unlike {newest.name} in {'; '.join(changed[:5])}")

    def add(self, answers: Iterable[Answer]) -> None:
        """Add answers that are not there yet; they are on disk when this returns."""
        new = [answer for answer in answers if answer.key not in self.answers]
        if not all(item.key for item in new):
            raise ValueError(
                "answers: one has no key, so it could not be told from others; give it its sample's"
            )
        self.answers |= {item.key: item for item in new}
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(_line(item) + "\n" for item in new)


def _line(answer: Answer) -> str:
    return json.dumps(asdict(answer))


def write_json(path: Path, what: Any) -> None:
    """Write a file, whole or not at all."""
    with draft_file(path) as draft:
        draft.write_text(json.dumps(what, indent=2) + "\n", encoding="utf-8")
