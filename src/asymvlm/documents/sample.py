"""The one form of pages and questions for training and evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import datasets
from PIL import Image

from .page_images import PageImages
from .picture import Box
from .skip_report import SkipReport

_BOXES = datasets.List(datasets.List(datasets.Value("float32")))
# One row a page (or a few pictures that are asked about together), so that these are stored and
# encoded once for all their questions.
FEATURES = datasets.Features(
    id=datasets.Value("string"),
    images=datasets.List(datasets.Image()),
    questions=datasets.List(
        {
            "id": datasets.Value("string"),
            "question": datasets.Value("string"),
            "answers": datasets.List(datasets.Value("string")),
            "history": datasets.List(datasets.List(datasets.Value("string"))),
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
    """A question about one page, or several, that may end a dialogue.

    Boxes are pixels of the first page as it is shown; all `evidence_boxes` are needed.
    """

    id: str
    page: int  # row of the page in its dataset
    images: Sequence[Image.Image]  # RGB; those of a dataset are decoded when they are looked at
    question: str
    answers: tuple[str, ...]
    evidence_boxes: tuple[Box, ...]
    key_boxes: tuple[Box, ...]
    # Other places that show the answer; any one group is as good.
    alt_evidence: tuple[tuple[Box, ...], ...]
    kind: str
    group: str  # questions that are reported together: localised, holistic, or the data's own
    history: tuple[tuple[str, str], ...] = ()  # turns that were said before: (user, assistant)
    place: int = 0  # of the question among the page's

    @property
    def key(self) -> str:
        """The question's number in its dataset; ids may be shared."""
        return f"{self.page}.{self.place}"

    @property
    def image(self) -> Image.Image:
        """The first page, which boxes refer to."""
        return self.images[0]


def samples(
    pages: datasets.Dataset,
    rows: Sequence[int] | None = None,
    report: SkipReport | None = None,
) -> Iterator[Sample]:
    """Yield all questions of `pages` (of some rows), page by page.

    A page whose pictures cannot be decoded is left out; `report` is told of each of its questions.
    """
    for row in range(len(pages)) if rows is None else rows:
        images = PageImages(pages, int(row))
        page = pages.select_columns(["id", "questions"])[int(row)]
        try:
            images.check()
        except ValueError as error:
            if report is not None:
                report.skip_page(page["id"], page["questions"], str(error))
            continue
        for place, question in enumerate(page["questions"]):
            yield _sample(question, int(row), place, images)


def _sample(
    question: dict[str, Any], row: int, place: int, images: Sequence[Image.Image]
) -> Sample:
    return Sample(
        id=question["id"],
        page=row,
        place=place,
        images=images,
        question=question["question"],
        answers=tuple(question["answers"]),
        evidence_boxes=tuple(tuple(box) for box in question["evidence_boxes"]),
        key_boxes=tuple(tuple(box) for box in question["key_boxes"]),
        alt_evidence=tuple(
            tuple(tuple(box) for box in group) for group in question["alt_evidence"]
        ),
        kind=question["kind"],
        group=question["group"],
        history=tuple((user, assistant) for user, assistant in question["history"]),
    )
