"""Tables of texts, for the terminal and in Markdown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from csv import QUOTE_MINIMAL, QUOTE_NONNUMERIC
from typing import Protocol

import pandas
from rich.console import Console
from rich.table import Table
from rich.text import Text

_WORDS = ("method", "policy", "against", "task")  # columns of words; the others are of numbers
# What Markdown reads as more than a letter, within a cell.
_MARKS = re.compile(r"[\\`*<&~$|]|\](?=[(\[])|(?<![^\W_])_|_(?![^\W_])")


def show(title: str, table: pandas.DataFrame, width: int = 160) -> None:
    """Print a table of texts."""
    # As texts, since rich reads what is in brackets of a str as styles.
    printed = Table(title=Text(visible(title)))
    for name in table.columns:
        printed.add_column(
            Text(name), justify="left" if name in _WORDS else "right", overflow="fold"
        )
    for line in table.itertuples(index=False, name=None):
        printed.add_row(*(Text(visible(cell)) for cell in line))
    Console(width=width).print(printed)


def markdown(table: pandas.DataFrame) -> str:
    """Write a table of texts in Markdown, with a line end."""
    cells = [[escaped(cell) for cell in line] for line in table.itertuples(index=False, name=None)]
    lines = [[escaped(name) for name in table.columns], ["---"] * len(table.columns), *cells]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def csv(table: pandas.DataFrame) -> str:
    """Write a table as comma-separated values."""
    texts = table.select_dtypes(["object", "string"])
    # Python's writer does not quote a lone \r, at which its reader begins another row.
    odd = any("\r" in str(cell) for column in texts for cell in texts[column])
    return table.to_csv(index=False, quoting=QUOTE_NONNUMERIC if odd else QUOTE_MINIMAL)


def visible(text: str, apart: str | None = None) -> str:
    """Put a text on one line, so that no other is shown the same.

    What does not print is escaped. What is blank at an end, or begins with a quote, is quoted, as
    is what has `apart` in it, which parts texts in a list.
    """
    line = "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )
    plain = line and line == line.strip() and line[0] != '"' and (not apart or apart not in line)
    return line if plain else f'"{line}"'


def escaped(text: str, apart: str | None = None) -> str:
    """Write a text in Markdown, so that it is read as it was and never ends a cell."""
    return _MARKS.sub(lambda found: "\\" + found[0], visible(text, apart))


def percent(share: float | None) -> str:
    """Format a share in percent; a dash where it is not known."""
    return "-" if share is None or pandas.isna(share) else f"{100 * share:.1f}"


def keep_name(keep: float | int | str) -> str:
    """Format a keep as the command line takes it."""
    return keep if isinstance(keep, str) else f"{keep:g}"


class Published(Protocol):
    """A method or policy that others have published."""

    deviations: tuple[str, ...]


def deviation_notes(given: Mapping[str, Published]) -> list[str]:
    """Write a note for each that is not what its authors published."""
    return [
        f"{visible(name)}: unlike its authors' form, {'; '.join(item.deviations)}"
        for name, item in given.items()
        if item.deviations
    ]
