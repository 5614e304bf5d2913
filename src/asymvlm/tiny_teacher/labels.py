"""Dense labels for the tower: what every patch of a generated page should know.

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
                torch.stack([getattr(one, name) for one in labels])
                for name in cls.__dataclass_fields__
            )
        )


def patch_labels(page: Page, patch: int, smallest_share: float = 0.12) -> PatchLabels:
    """Labels by the box that covers most of each patch, where it covers at least `smallest_share`
    of it.
    """
    rows = page.size // patch

    def shares(box: Box) -> np.ndarray:
        return box_shares(box, (page.size, page.size), (rows, rows))

    best = np.full((rows, rows), smallest_share)
    word, name, column = (np.zeros((rows, rows), np.int64) for _ in range(3))
    digits, magnitude = np.zeros((rows, rows, 3), np.int64), np.full((rows, rows), -1.0, np.float32)

    def claim(box: Box) -> np.ndarray:
        share = shares(box)
        won = share > best
        best[won] = share[won]
        return won

    owner = np.full((rows, rows), -1)  # which value stands on a patch
    for number, field in enumerate(page.fields):
        won = claim(field.name_box)
        word[won], name[won], column[won], digits[won], magnitude[won] = (
            WORD_IDS[field.name],
            WORD_IDS[field.name],
            0,
            0,
            -1,
        )
        if field.column is not None and field.column_box is not None:
            won = claim(field.column_box)
            word[won], name[won], column[won], digits[won], magnitude[won] = (
                WORD_IDS[field.column],
                0,
                WORD_IDS[field.column],
                0,
                -1,
            )
        won = claim(field.value_box)
        owner[won] = number
        word[won], name[won] = 0, WORD_IDS[field.name]
        column[won] = WORD_IDS[field.column] if field.column else 0
        text = str(field.value)
        digits[won] = [NO_DIGIT] * (3 - len(text)) + [int(digit) + 1 for digit in text]
        magnitude[won] = np.log10(field.value / 10) / 2
    sees = np.zeros((2, rows * rows, rows * rows), bool)
    for number, field in enumerate(page.fields):
        mine = np.flatnonzero(owner == number)
        for which, box in enumerate((field.name_box, field.column_box)):
            if box is not None:
                sees[which][np.ix_(mine, np.flatnonzero(shares(box) > smallest_share))] = True
    characters = np.zeros((rows, rows, 2), np.int64)
    for character, (x0, y0, x1, y1) in page.glyphs:
        row, half = int((y0 + y1) / 2 // patch), int((x0 + x1) / 2 // (patch / 2))
        if character in CHARACTERS and 0 <= row < rows and 0 <= half < 2 * rows:
            characters[row, half // 2, half % 2] = CHARACTERS.index(character) + 1
    return PatchLabels(
        torch.from_numpy(word.reshape(-1)),
        torch.from_numpy(name.reshape(-1)),
        torch.from_numpy(column.reshape(-1)),
        torch.from_numpy(digits.reshape(-1, 3)),
        torch.from_numpy(characters.reshape(-1, 2)),
        torch.from_numpy(sees[0]),
        torch.from_numpy(sees[1]),
        torch.from_numpy(magnitude.reshape(-1)),
    )
