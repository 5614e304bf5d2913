"""Open the user's data in any of the known forms."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path

import datasets

from ...errors import DataError, disk_error, renamed_arguments
from ...limits import check_at_least, check_named
from ...storage.writable import check_writable
from ..skip_report import SkipReport
from ..world.generated import generated_dialogues, generated_pages
from .conversations import add_conversations
from .folder import check_folder, folder_pages, split_names
from .hub import hub_pages
from .lines import add_lines, is_lines
from .records import FileRecords, RecordTable
from .splits import choose_split, share_of

_Pages = tuple[datasets.Dataset, SkipReport]


@dataclass
class DataSource:
    """The source of pages and questions, for training and every evaluation.

    Args:
        path: A folder with `train` and `val` (data/README.md), a JSONL file, LLaVA's JSON, or a
            dataset: a directory that `datasets` saved, or a name on the Hub. The generated world if
            left out.
        images: Folder that picture paths in a file are relative to; the file's own if left out.
        columns: Of a `datasets` dataset: where `image`, `question`, `answers` are, if they are
            called otherwise.
        subset: Of a dataset on the Hub: its configuration.
        val_share: Share of the pages that becomes the validation split where the data has none
            (`sources.splits`).
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
        self._said: set[str] = set()  # what was said of splits

    def check(self) -> None:
        """Refuse, before any work, what can be seen to name no data.

        Raises ValueError for settings, DataError for a path that is not there.
        """
        if len(self.questions) != 2 or min(self.questions) < 0 or sum(self.questions) < 1:
            raise ValueError(
                f"questions: {list(self.questions)} must be two counts, of look-ups and of "
                "whole-page questions, one of them above 0"
            )
        check_at_least(0, {"seed": self.seed})
        check_named({"path": self.path, "root": self.root})
        if not 0 < self.val_share < 1:
            raise ValueError(f"val_share: {self.val_share} must lie between 0 and 1")
        if self.path is None:
            given = [name for name in ("images", "columns", "subset") if getattr(self, name)]
            if given:
                raise ValueError(
                    f"{given[0]}: describes data that is not named; give its path, too"
                )
            return
        local = Path(self.path).is_absolute() or self.path.startswith(".")
        if local and not Path(self.path).exists():
            raise DataError(
                f"path: {self.path} does not exist; see data/README.md for what it may be"
            )

    def check_root(self) -> None:
        """Raise DataError where pages have to be drawn and nothing can be written to `root`."""
        root = Path(self.root)
        if self.path is None and not (root.is_dir() and any(root.iterdir())):
            check_writable(root, "root")

    @contextmanager
    def _root_is_named(self) -> Iterator[None]:
        """Have errors of the disk name the setting."""
        try:
            yield
        except (OSError, DataError) as error:
            if disk_error(error) is None:
                raise
            reason = error if isinstance(error, DataError) else disk_error(error)
            raise DataError(f"root: {reason}; name another folder") from error

    def pages(self, split: str, count: int) -> _Pages:
        """Return the pages of a split, and what was skipped; `count` of them if generated.

        Raises DataError where there are none.
        """
        self.check()
        if self.path is None:
            with self._root_is_named():
                drawn = generated_pages(Path(self.root), split, count, self.seed, *self.questions)
            return drawn, SkipReport()
        place = Path(self.path)
        if place.is_file():
            return self._chosen(split, {"data": lambda: self._file_pages(place)})
        saved = any((place / name).is_file() for name in ("dataset_info.json", "dataset_dict.json"))
        if place.is_dir() and not saved:
            check_folder(place)
            parts = {name: partial(folder_pages, place, name) for name in split_names(place)}
            return self._chosen(split, parts)
        data = self._open()
        if isinstance(data, datasets.Dataset):
            return self._chosen(split, {"data": lambda: hub_pages(data, self.columns)})
        return self._chosen(
            split, {name: partial(hub_pages, part, self.columns) for name, part in data.items()}
        )

    def _chosen(self, split: str, parts: Mapping[str, Callable[[], _Pages]]) -> _Pages:
        """Read the part of the data that serves as a split, and say which that is."""
        assert self.path is not None
        choice = choose_split(split, parts.keys(), self.path)
        pages, report = parts[choice.name]()
        words = choice.words(split, self.val_share)
        if words and words not in self._said:
            self._said.add(words)
            print(f"{self.path}, {words}")
        if choice.shared:
            pages = share_of(pages, split, self.val_share, self.path)
        return pages, report

    def _file_pages(self, file: Path) -> _Pages:
        table = RecordTable()
        records = FileRecords(table, [Path(self.images) if self.images else file.parent])
        (add_lines if is_lines(file) else add_conversations)(records, file)
        return table.pages(str(file))

    def dialogues(self, split: str, count: int) -> _Pages:
        """Return pages whose questions end dialogues, and what was skipped; `count` if generated.

        Raises DataError where no question has a history.
        """
        if self.path is None:
            with self._root_is_named():
                drawn = generated_dialogues(Path(self.root), split, count, self.seed)
            return drawn, SkipReport()
        pages, report = self.pages(split, count)
        if not any(question["history"] for page in pages["questions"] for question in page):
            raise DataError(
                f"path: no question of {self.path} has a history of turns before it; give "
                "dialogues (data/README.md)"
            )
        return pages, report

    def _open(self) -> datasets.Dataset | datasets.DatasetDict:
        assert self.path is not None
        try:
            if Path(self.path).is_dir():
                return datasets.load_from_disk(self.path)
            return datasets.load_dataset(self.path, self.subset)
        except Exception as error:  # whatever goes wrong in somebody's data, or on the way to it
            raise DataError(
                f"path: {self.path} is no folder, no file and no dataset on the Hub ({error})"
            ) from error


def as_data_flags() -> AbstractContextManager[None]:
    """Name a source's arguments in errors as commands do, `data.path`, while open."""
    return renamed_arguments({item.name: f"data.{item.name}" for item in fields(DataSource)})
