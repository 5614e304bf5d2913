"""Pages of any `datasets` dataset, on the Hub or on disk, with the columns named."""

from __future__ import annotations

from typing import Any

import datasets

from ...errors import DataError
from ..sample import FEATURES, SkipReport
from .records import checked_question

COLUMNS = {"image": "image", "question": "question", "answers": "answers"}


def hub_pages(
    data: datasets.Dataset, columns: dict[str, str]
) -> tuple[datasets.Dataset, SkipReport]:
    """Read pages; `columns` names those of `image`, `question`, `answers` and other keys.

    Raises DataError for columns that are not there, and where no row can be used.
    """
    named = {**COLUMNS, **columns}
    missing = [column for column in named.values() if column not in data.column_names]
    if missing:
        raise DataError(
            f"data.columns: the data has no {', '.join(missing)}; it has "
            f"{', '.join(data.column_names)}. "
            "Name them, for example --data.columns.question query"
        )
    report = SkipReport()
    undecoded = data.select_columns(list(dict.fromkeys(named.values())))
    if isinstance(undecoded.features[named["image"]], datasets.Image):
        # Bytes are passed on as they are.
        undecoded = undecoded.cast_column(named["image"], datasets.Image(decode=False))
    rows = []
    for number, row in enumerate(undecoded, start=1):
        record = {key: row[column] for key, column in named.items()}
        images = record.pop("image")
        try:
            rows.append(_page(checked_question(record, f"row:{number}"), images, f"row-{number}"))
        except (ValueError, TypeError) as error:
            report.skip(f"row:{number}", str(error))
    report.used = len(rows)
    if not rows:
        raise DataError("; ".join(["data.path: no usable row", *report.lines(3)]))
    return datasets.Dataset.from_list(rows, features=FEATURES), report


def _page(question: dict[str, Any], images: Any, name: str) -> dict[str, Any]:
    images = images if isinstance(images, list) else [images]
    if not images or any(image is None for image in images):
        raise ValueError("has no image")
    return {"id": name, "images": images, "questions": [question]}
