"""Checks of the records of every source: question, answers, pictures, perhaps boxes."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import datasets

from ...errors import DataError
from ...storage.file_digest import file_digest
from ..picture import PictureHead, Stored, picture_head
from ..sample import FEATURES
from ..skip_report import SkipReport
from .boxes import checked_boxes

LONGEST = 20_000  # characters of a question, an answer or a turn: some 5,000 tokens
# What processors write for a picture: in a question it would stand for one more.
_PLACEHOLDERS = (
    "<image>", "<|image|>", "<|image_pad|>", "<|vision_start|>", "<|video_pad|>", "<video>",
    "[IMG]", "<image_soft_token>", "<start_of_image>", "<IMG_CONTEXT>", "<|begin_of_image|>",
)  # fmt: skip


class RecordTable:
    """Collects records into pages, one for each set of pictures with all its questions.

    What cannot be used is skipped, counted and named. Pages are known by the content of their
    pictures: equal ones under other names are one page, and equal names do not mix. Whether a
    picture can be decoded shows when it is (`documents.samples`).
    """

    def __init__(self) -> None:
        self.report = SkipReport()
        self._pages: dict[tuple[str, ...], dict[str, Any]] = {}
        self._digest = functools.cache(_digest_of_file)
        self._head = functools.cache(picture_head)  # of paths

    def add(self, record: Any, images: Sequence[Stored], name: str, file: str = "") -> None:
        """Add a record whose pictures were found."""
        try:
            if not isinstance(record, dict):
                raise ValueError("is not a JSON object")
            question = checked_question(record, name)
            content = tuple(map(self._content, images))
            if not content:
                raise ValueError("has no image")
            question |= checked_boxes(record, lambda: self._head_of(images[0]))
        except (ValueError, TypeError, OSError) as error:
            self.report.skip(name, str(error), file)
            return
        page = self._pages.setdefault(
            content, {"id": _page_id(content), "images": list(map(_kept, images)), "questions": []}
        )
        self.report.origins[page["id"], len(page["questions"])] = name, file
        page["questions"].append(question)
        self.report.used += 1

    def _content(self, image: Stored | None) -> str:
        """Hash a picture's file; raises ValueError where there is none."""
        if isinstance(image, dict):
            image = image["path"] if image.get("bytes") is None else image["bytes"]
        if image is None or image == "":
            raise ValueError("has no image")
        if isinstance(image, bytes):
            return hashlib.sha256(image).hexdigest()
        if not isinstance(image, str | Path):
            raise ValueError(f"image is {type(image).__name__}, no file and no path of one")
        return self._digest(Path(image))

    def _head_of(self, image: Stored) -> PictureHead:
        return picture_head(image) if isinstance(image, dict | bytes) else self._head(image)

    def pages(self, where: str) -> tuple[datasets.Dataset, SkipReport]:
        """Return all pages.

        Raises DataError if no record could be used.
        """
        if not self._pages:
            raise DataError(
                "; ".join([f"path: {where} has no usable record", *self.report.lines(3)])
            )
        pages = list(self._pages.values())
        return datasets.Dataset.from_list(pages, features=FEATURES), self.report


class FileRecords:
    """Adds records that name their pictures by paths, looked for under each of `roots` in turn."""

    def __init__(self, table: RecordTable, roots: Sequence[Path]) -> None:
        self.table, self.roots = table, roots
        self._find = functools.cache(self._found)

    def add(self, record: Any, name: str, file: Path) -> None:
        """Add a record with `image` (a path) or `images` (several)."""
        try:
            images = [self._find(image) for image in _named_images(record)]
        except (ValueError, OSError) as error:
            self.table.report.skip(name, str(error), str(file))
            return
        self.table.add(record, images, name, str(file))

    def add_all(self, records: Iterable[Any], name: str, file: Path) -> None:
        for number, record in enumerate(records, start=1):
            self.add(record, f"{name}:{number}", file)

    def _found(self, named: str) -> Path:
        found = next((root / named for root in self.roots if (root / named).is_file()), None)
        if found is None:
            raise ValueError(f"image {named} does not exist")
        return found


def checked_question(record: dict[str, Any], name: str) -> dict[str, Any]:
    """Convert the texts of a record to the dataset's form.

    Raises ValueError that says what is wrong with it.
    """
    question, answers = record.get("question"), record.get("answers")
    if not isinstance(question, str) or not question.strip():
        raise ValueError("question is empty")
    if isinstance(answers, str):
        answers = [answers]
    if not _is_texts(answers) or not answers or not all(answer.strip() for answer in answers):
        raise ValueError("answers must be a list with at least one text")
    history = record.get("history") or []
    if not isinstance(history, list) or not all(
        _is_texts(turn) and len(turn) == 2 for turn in history
    ):
        raise ValueError("history must hold turns [user, assistant], both texts")
    kind = record.get("kind")
    kind = "question" if kind is None else kind
    if not isinstance(kind, str):
        raise ValueError(f"kind must be a text, not {kind!r}")
    _check_texts("question", [question])
    _check_texts("answers", answers)
    _check_texts("history", [said for turn in history for said in turn])
    return {
        "question": question,
        "answers": list(answers),
        "history": [list(turn) for turn in history],
        "id": str(record.get("id") or name),
        "kind": kind,
        "group": kind,
    }


def _is_texts(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)


def _check_texts(key: str, texts: Sequence[str]) -> None:
    for text in texts:
        if len(text) > LONGEST:
            raise ValueError(f"{key} has {len(text):,} characters, more than {LONGEST:,}")
        found = next((item for item in _PLACEHOLDERS if item in text), None)
        if found is not None:
            raise ValueError(f"{key} holds {found}, which stands for a picture; leave it out")


def _named_images(record: Any) -> list[str]:
    if not isinstance(record, dict):
        raise ValueError("is not a JSON object")
    named = record.get("images", record.get("image"))
    named = [named] if isinstance(named, str) else named
    if not named or not _is_texts(named) or not all(named):
        raise ValueError("image must be a path, or images a list of paths")
    return named


def _digest_of_file(path: Path) -> str:
    if not path.is_file():
        raise ValueError(f"image {path} does not exist")
    return file_digest(path)


def _page_id(content: tuple[str, ...]) -> str:
    """Name a page after the content of its pictures."""
    several = hashlib.sha256("".join(content).encode()).hexdigest()
    return f"page-{(content[0] if len(content) == 1 else several)[:12]}"


def _kept(image: Stored) -> Any:
    return str(image) if isinstance(image, Path) else image
