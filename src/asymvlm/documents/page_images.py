"""Pictures of a page in a dataset, decoded when they are looked at."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any, overload

import datasets
from PIL import Image

from .picture import read_picture

_UNDECODED = datasets.List(datasets.Image(decode=False))
_MOST = 4  # pages held decoded for each dataset
_decoded: weakref.WeakKeyDictionary[datasets.Dataset, OrderedDict[int, tuple[Image.Image, ...]]]
_decoded = weakref.WeakKeyDictionary()


class PageImages(Sequence[Image.Image]):
    """The pictures of one row, in RGB; equal to a tuple of them.

    A few pages of each dataset stay decoded, so that questions about one page share its pictures
    and thousands of questions hold no copies.
    """

    def __init__(self, pages: datasets.Dataset, row: int) -> None:
        self._pages, self._row = pages, row

    def check(self) -> None:
        """Decode all; raises ValueError, in words, where that cannot be done."""
        self._read()

    def _read(self) -> tuple[Image.Image, ...]:
        held = _decoded.setdefault(self._pages, OrderedDict())
        if self._row not in held:
            stored = self._pages.select_columns(["images"]).cast_column("images", _UNDECODED)
            held[self._row] = tuple(map(read_picture, stored[self._row]["images"]))
            while len(held) > _MOST:
                held.popitem(last=False)
        held.move_to_end(self._row)
        return held[self._row]

    @overload
    def __getitem__(self, index: int) -> Image.Image: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Image.Image]: ...

    def __getitem__(self, index: int | slice) -> Image.Image | Sequence[Image.Image]:
        return self._read()[index]

    def __len__(self) -> int:
        return len(self._read())

    def __iter__(self) -> Iterator[Image.Image]:
        return iter(self._read())

    def __eq__(self, other: object) -> bool:
        return tuple(self) == tuple(other) if isinstance(other, Sequence) else NotImplemented

    def __hash__(self) -> int:
        return hash((id(self._pages), self._row))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the decoded pictures, not the dataset, which may be large."""
        return tuple, (list(self._read()),)
