"""Pages with their evidence boxes: `python -m asymvlm.evaluation.contact_sheet OUT.png [DIR]`."""

from __future__ import annotations

import sys

from ..cli.door import enter

# Before the imports that take seconds: help and signals do not wait for them.
if __name__ == "__main__":
    sys.exit(enter("contact-sheet"))

from pathlib import Path

import datasets
from PIL import Image, ImageOps

from ..cli.command import run_command
from ..documents.sample import FEATURES, samples
from ..documents.sources.folder import folder_pages
from ..documents.world.generate import generate
from ..documents.world.generated import page_row
from ..storage.writable import check_writable
from .report.pictures import draw_boxes


def contact_sheet(pages: datasets.Dataset, columns: int = 4, cell: int = 224) -> Image.Image:
    """Draw the first question of every page: evidence boxes in red, key boxes in blue."""
    found = [next(samples(pages, [row]), None) for row in range(len(pages))]
    firsts = [sample for sample in found if sample is not None]
    sheet = Image.new("RGB", (columns * cell, -(-len(firsts) // columns) * cell), "white")
    for number, sample in enumerate(firsts):
        tile = ImageOps.contain(draw_boxes(sample), (cell - 4, cell - 4))
        sheet.paste(tile, (number % columns * cell + 2, number // columns * cell + 2))
    return sheet


def main(arguments: list[str] | None = None, owns_process: bool | None = None) -> int:
    """Draw; returns the exit code."""
    return run_command(_draw, arguments, owns_process)


def _draw(arguments: list[str]) -> None:
    if Path(arguments[0]).suffix.lower() not in Image.registered_extensions():
        raise ValueError(f"{arguments[0]} is no name of a picture; end it with .png")
    check_writable(Path(arguments[0]).parent, "OUT.png")
    if len(arguments) == 2:
        pages = folder_pages(Path(arguments[1]), "train")[0].select(range(16))
    else:
        rows = [page_row(f"page-{index}", *generate(0, "train", index)) for index in range(16)]
        pages = datasets.Dataset.from_list(rows, features=FEATURES)
    contact_sheet(pages).save(arguments[0])
    print(f"contact sheet: {arguments[0]}")
