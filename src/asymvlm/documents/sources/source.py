"""Open the user's data in any of the known forms."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import datasets

from ...errors import DataError
from ..sample import SkipReport
from ..world.generated import generated_dialogues, generated_pages
from .conversations import add_conversations
from .folder import add_lines, folder_pages
from .hub import hub_pages
from .records import PageTable

_NAMES = {
    "val": ("val", "validation", "test"),
    "test": ("test", "val", "validation"),
    "train": ("train",),
}


@dataclass
class DataSource:
    """Where pages and questions come from, for training and every evaluation.

    Args:
        path: A folder with `train` and `val` (data/README.md), a JSONL file, LLaVA's JSON, or a
            dataset: a directory that `datasets` saved, or a name on the Hub. The generated world if
            left out.
        images: Folder that picture paths in a file are relative to; the file's own if left out.
        columns: Of a `datasets` dataset: where `image`, `question`, `answers` are, if they are
            called otherwise.
        subset: Of a dataset on the Hub: its configuration.
        val_share: Share of the pages that becomes the validation split where the data has none.
        root: Where generated pages are written.
        questions: Look-ups and whole-page questions per generated page.
        seed: Seed of the generated pages.
    """

    path: str | None = None
    images: str | None = None
    columns: dict[str, str] = field(default_factory=dict)
    subset: str | None = None
    val_share: float = 0.05
    root: str = "data"
    questions: tuple[int, int] = (3, 2)
    seed: int = 0

    def __post_init__(self) -> None:
        self.columns = self.columns or {}
        if not 0 < self.val_share < 1:
            raise ValueError(f"data.val_share: {self.val_share} must lie between 0 and 1")
        if self.path is None:
            given = [name for name in ("images", "columns", "subset") if getattr(self, name)]
            if given:
                raise ValueError(
                    f"data.{given[0]}: describes data that is not named; give data.path"
                )
            return
        local = Path(self.path).is_absolute() or self.path.startswith(".")
        if local and not Path(self.path).exists():
            raise DataError(
                f"data.path: {self.path} does not exist; see data/README.md for what it may be"
            )

    def pages(self, split: str, count: int) -> tuple[datasets.Dataset, SkipReport]:
        """Return the pages of a split, and what was skipped; `count` of them if generated.

        Raises DataError where there are none.
        """
        if self.path is None:
            return generated_pages(
                Path(self.root), split, count, self.seed, *self.questions
            ), SkipReport()
        place = Path(self.path)
        if place.is_file():
            table = PageTable([Path(self.images) if self.images else place.parent])
            (add_lines if place.suffix == ".jsonl" else add_conversations)(table, place)
            pages, report = table.pages(self.path)
            return self._share(pages, split), report
        if (
            place.is_dir()
            and not (place / "dataset_info.json").is_file()
            and not (place / "dataset_dict.json").is_file()
        ):
            return folder_pages(place, split)
        data = self._open()
        if isinstance(data, datasets.Dataset):
            pages, report = hub_pages(data, self.columns)
            return self._share(pages, split), report
        found = next((name for name in _NAMES[split] if name in data), None)
        pages, report = hub_pages(data[found or "train"], self.columns)
        return (
            (pages, report)
            if found and any(name in data for name in _NAMES["val"])
            else (self._share(pages, split), report)
        )

    def dialogues(self, split: str, count: int) -> datasets.Dataset:
        """Return pages whose questions end dialogues; `count` of them if generated.

        Raises DataError where no question has a history.
        """
        if self.path is None:
            return generated_dialogues(Path(self.root), split, count, self.seed)
        pages, _ = self.pages(split, count)
        if not any(question["history"] for page in pages["questions"] for question in page):
            raise DataError(
                f"data.path: no question of {self.path} has a history of turns before it; give "
                "dialogues (data/README.md)"
            )
        return pages

    def _open(self) -> datasets.Dataset | datasets.DatasetDict:
        assert self.path is not None
        if Path(self.path).is_dir():
            return datasets.load_from_disk(self.path)
        try:
            return datasets.load_dataset(self.path, self.subset)
        except Exception as error:  # whatever goes wrong in somebody's data, or on the way to it
            raise DataError(
                f"data.path: {self.path} is no folder, no file and no dataset on the Hub ({error})"
            ) from error

    def _share(self, pages: datasets.Dataset, split: str) -> datasets.Dataset:
        """Assign pages to the validation split by their name, whatever their order."""
        shares = [
            int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) / 16**8 for name in pages["id"]
        ]
        chosen = [
            row
            for row, share in enumerate(shares)
            if (share < self.val_share) == (split != "train")
        ]
        if not chosen:
            raise DataError(
                f"data.path: {self.path} leaves no page for the split {split!r}; change "
                "data.val_share or add pages"
            )
        return pages.select(chosen)
