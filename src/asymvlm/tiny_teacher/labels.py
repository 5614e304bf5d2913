"""Dense labels for the tower, patch by patch of a generated page.

A patch on a value should know the value's digits and which name (and column) it belongs to; a patch
on a name should know the name. This is what makes a small tower read in minutes: from answers alone
the loss stays at the language prior.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from ..documents.cells import box_shares
from ..documents.sample import Box
from ..documents.world.page import Page
from ..documents.world.words import WORDS

CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
WORD_IDS = {word: index + 1 for index, word in enumerate(WORDS)}  # 0 is "none"
NO_DIGIT = 11  # of a value with fewer digits; 0 is "not a value", digit d is d + 1


@dataclass
class PatchLabels:
    """Labels of one page, or of a batch with a leading dimension. P = patches, row-major."""

    word: Int64[Tensor, "*b P"]  # the word printed here: 0 none, else 1 + index in WORDS
    name: Int64[Tensor, "*b P"]  # the name that what is printed here belongs to
    column: Int64[Tensor, "*b P"]
    digits: Int64[Tensor, "*b P 3"]  # hundreds, tens, units: 0 none, 1-10 a digit, 11 no such digit
    # In the left and right half: 0 none, else 1 + index in CHARACTERS.
    characters: Int64[Tensor, "*b P 2"]
    sees_name: Bool[Tensor, "*b P P"]  # [patch of a value, patch of its name]
    sees_column: Bool[Tensor, "*b P P"]  # [patch of a value, patch of its column's header]
    magnitude: Float[Tensor, "*b P"]  # log10(value / 10) / 2 in [0, 1] on values, else -1

    @classmethod
    def stack(cls, labels: list[PatchLabels]) -> PatchLabels:
        return cls(
            *(
                torch.stack([getattr(label, name) for label in labels])
                for name in cls.__dataclass_fields__
            )
        )


def patch_labels(page: Page, patch: int, smallest_share: float = 0.12) -> PatchLabels:
    """Label each patch by the box that covers most of it, at least `smallest_share`."""
    rows = page.size // patch
    sheet = _Sheet(rows, page.size, smallest_share)
    owner = np.full((rows, rows), -1)  # which value stands on a patch
    for number, field in enumerate(page.fields):
        name = WORD_IDS[field.name]
        sheet.write(sheet.claim(field.name_box), name, name, 0)
        column = WORD_IDS[field.column] if field.column else 0
        if field.column is not None and field.column_box is not None:
            sheet.write(sheet.claim(field.column_box), column, 0, column)
        won = sheet.claim(field.value_box)
        owner[won] = number
        text = str(field.value)
        digits = [NO_DIGIT] * (3 - len(text)) + [int(digit) + 1 for digit in text]
        sheet.write(won, 0, name, column, digits, np.log10(field.value / 10) / 2)
    sees = np.zeros((2, rows * rows, rows * rows), bool)
    for number, field in enumerate(page.fields):
        own = np.flatnonzero(owner == number)
        for which, box in enumerate((field.name_box, field.column_box)):
            if box is not None:
                boxed = np.flatnonzero(sheet.shares(box) > smallest_share)
                sees[which][np.ix_(own, boxed)] = True
    return PatchLabels(
        torch.from_numpy(sheet.word.reshape(-1)),
        torch.from_numpy(sheet.name.reshape(-1)),
        torch.from_numpy(sheet.column.reshape(-1)),
        torch.from_numpy(sheet.digits.reshape(-1, 3)),
        torch.from_numpy(_characters(page, patch).reshape(-1, 2)),
        torch.from_numpy(sees[0]),
        torch.from_numpy(sees[1]),
        torch.from_numpy(sheet.magnitude.reshape(-1)),
    )


class _Sheet:
    """The labels of a page's patches while boxes are laid on it, the largest share winning."""

    def __init__(self, rows: int, size: int, smallest_share: float) -> None:
        self.rows, self.size = rows, size
        self.best = np.full((rows, rows), smallest_share)
        self.word, self.name, self.column = (np.zeros((rows, rows), np.int64) for _ in range(3))
        self.digits = np.zeros((rows, rows, 3), np.int64)
        self.magnitude = np.full((rows, rows), -1.0, np.float32)

    def shares(self, box: Box) -> np.ndarray:
        """Share of each patch inside a box."""
        return box_shares(box, (self.size, self.size), (self.rows, self.rows))

    def claim(self, box: Box) -> np.ndarray:
        """Mark the patches that a box covers more of than any before it."""
        share = self.shares(box)
        won = share > self.best
        self.best[won] = share[won]
        return won

    def write(
        self,
        won: np.ndarray,
        word: int,
        name: int,
        column: int,
        digits: int | list[int] = 0,
        magnitude: float = -1,
    ) -> None:
        """Label the patches that a box has won."""
        self.word[won], self.name[won], self.column[won] = word, name, column
        self.digits[won], self.magnitude[won] = digits, magnitude


def _characters(page: Page, patch: int) -> np.ndarray:
    """The characters in the left and right half of each patch."""
    rows = page.size // patch
    characters = np.zeros((rows, rows, 2), np.int64)
    for character, (x0, y0, x1, y1) in page.glyphs:
        row, half = int((y0 + y1) / 2 // patch), int((x0 + x1) / 2 // (patch / 2))
        if character in CHARACTERS and 0 <= row < rows and 0 <= half < 2 * rows:
            characters[row, half // 2, half % 2] = CHARACTERS.index(character) + 1
    return characters
