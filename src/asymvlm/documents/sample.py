"""The one form in which pages and questions reach training and evaluation, wherever they come from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import datasets
from PIL import Image

from .canvas import Box

_BOXES = datasets.List(datasets.List(datasets.Value("float32")))
# One row a page, so that a picture is stored and encoded once for all its questions.
FEATURES = datasets.Features(
    id=datasets.Value("string"),
    image=datasets.Image(),
    questions=datasets.List(
        {
            "id": datasets.Value("string"),
            "question": datasets.Value("string"),
            "answers": datasets.List(datasets.Value("string")),
            "evidence_boxes": _BOXES,
            "key_boxes": _BOXES,
            "alt_evidence": datasets.List(_BOXES),
            "kind": datasets.Value("string"),
            "group": datasets.Value("string"),
        }
    ),
)


@dataclass(frozen=True)
class Sample:
    """A question about a page. Boxes are pixels of the stored picture; all `evidence_boxes` are needed."""

    id: str
    page: int  # row of the page in its dataset
    image: Image.Image
    question: str
    answers: tuple[str, ...]
    evidence_boxes: tuple[Box, ...]
    key_boxes: tuple[Box, ...]
    alt_evidence: tuple[tuple[Box, ...], ...]  # other places that show the answer; any one group is as good
    kind: str
    group: str  # questions that are reported together: localised, holistic, or the data's own


def samples(pages: datasets.Dataset, rows: Sequence[int] | None = None) -> Iterator[Sample]:
    """All questions of `pages` (of some rows of it), page by page."""
    for row in range(len(pages)) if rows is None else rows:
        page = pages[int(row)]
        image = page["image"].convert("RGB")
        for question in page["questions"]:
            yield _sample(question, int(row), image)


def _sample(question: dict[str, Any], row: int, image: Image.Image) -> Sample:
    return Sample(
        id=question["id"],
        page=row,
        image=image,
        question=question["question"],
        answers=tuple(question["answers"]),
        evidence_boxes=tuple(tuple(box) for box in question["evidence_boxes"]),
        key_boxes=tuple(tuple(box) for box in question["key_boxes"]),
        alt_evidence=tuple(tuple(tuple(box) for box in group) for group in question["alt_evidence"]),
        kind=question["kind"],
        group=question["group"],
    )


@dataclass
class SkipReport:
    """Records that could not be used, by name and reason."""

    skipped: list[tuple[str, str]] = field(default_factory=list)
    used: int = 0

    def skip(self, name: str, reason: str) -> None:
        self.skipped.append((name, reason))

    def lines(self, most: int = 10) -> list[str]:
        """What to tell the user; empty where nothing was skipped."""
        if not self.skipped:
            return []
        head = f"skipped {len(self.skipped)} of {len(self.skipped) + self.used} records:"
        lines = [f"  {name}: {reason}" for name, reason in self.skipped[:most]]
        more = len(self.skipped) - most
        return [head, *lines, *([f"  and {more} more"] if more > 0 else [])]
