"""Pages of any `datasets` dataset, on the Hub or on disk, with the columns named."""

from __future__ import annotations

from typing import Any

import datasets

from ...errors import DataError
from ..skip_report import SkipReport
from .records import RecordTable

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
            f"columns: the data has no {', '.join(missing)}; it has "
            f"{', '.join(data.column_names)}; say which is which, such as question: query"
        )
    rows = _undecoded(data.select_columns(list(dict.fromkeys(named.values()))), named["image"])
    table = RecordTable()
    for number, row in enumerate(rows, start=1):
        record = {key: row[column] for key, column in named.items()}
        images = record.pop("image")
        table.add(record, images if isinstance(images, list) else [images], f"row:{number}")
    return table.pages("the dataset")


def _undecoded(data: datasets.Dataset, column: str) -> datasets.Dataset:
    """Have pictures passed on as they are stored."""
    feature: Any = data.features[column]
    if isinstance(feature, datasets.Image):
        return data.cast_column(column, datasets.Image(decode=False))
    if isinstance(feature, datasets.List) and isinstance(feature.feature, datasets.Image):
        return data.cast_column(column, datasets.List(datasets.Image(decode=False)))
    return data
