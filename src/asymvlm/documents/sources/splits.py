"""The choice of splits for train, val and test: one rule for all forms of data."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import datasets

from ...errors import DataError

_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "validation", "valid", "dev", "eval"),
    "test": ("test", "testing"),
}


@dataclass(frozen=True)
class SplitChoice:
    """A split of the data, or a share of its pages."""

    name: str
    shared: bool  # whether train and val both take their pages from it

    def words(self, split: str, val_share: float) -> str:
        """Say what was chosen; empty where it goes without saying."""
        if self.shared:
            share = val_share if split != "train" else 1 - val_share
            return (
                f"{split}: {share * 100:g} % of the pages of {self.name!r}, chosen by "
                "their pictures (val_share), since the data has no validation split"
            )
        return "" if self.name == split else f"{split}: the split {self.name!r}"


def choose_split(split: str, names: Collection[str], path: str) -> SplitChoice:
    """Choose among the splits of these names.

    `train` and `test` are those of that name. `val` is the one called val, validation, valid, dev
    or eval; where there is none, train and val share the pages of `train`, or those of the only
    split where that has another name. Without a test split `test` is `val`. Case does not count.

    Raises DataError where that leaves nothing.
    """
    found = {kind: _named(kind, names) for kind in _NAMES}
    for kind in {"test": ("test", "val"), "val": ("val",), "train": ()}[split]:
        own = found[kind]
        if own is not None:
            return SplitChoice(own, False)
    unnamed = len(names) == 1 and not any(found.values())
    base = next(iter(names)) if unnamed else found["train"]
    if base is None:
        raise DataError(
            f"path: {path} has no split for {split!r}, only {', '.join(sorted(names))}; name "
            f"it one of {', '.join(_NAMES[split])}"
        )
    return SplitChoice(base, found["val"] is None)


def _named(kind: str, names: Collection[str]) -> str | None:
    lower = {name.lower(): name for name in names}
    return next((lower[name] for name in _NAMES[kind] if name in lower), None)


def share_of(pages: datasets.Dataset, split: str, val_share: float, path: str) -> datasets.Dataset:
    """Take a split's share of pages, by the content of their pictures, whatever their order.

    Raises DataError where no page is left.
    """
    validates = [int(name[-12:], 16) / 16**12 < val_share for name in pages["id"]]
    chosen = [row for row, held_out in enumerate(validates) if held_out != (split == "train")]
    if not chosen:
        raise DataError(
            f"path: {path} leaves no page for the split {split!r}; change val_share or add pages"
        )
    return pages.select(chosen)
