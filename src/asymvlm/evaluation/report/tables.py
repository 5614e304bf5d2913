"""Tables of texts, for the terminal and in Markdown."""

from __future__ import annotations

import pandas
from rich.console import Console
from rich.table import Table

_WORDS = ("method", "policy", "against", "task")  # columns of words; the others are of numbers


def show(title: str, table: pandas.DataFrame, width: int = 160) -> None:
    """Print a table of texts."""
    printed = Table(title=title)
    for name in table.columns:
        printed.add_column(name, justify="left" if name in _WORDS else "right")
    for line in table.itertuples(index=False, name=None):
        printed.add_row(*line)
    Console(width=width).print(printed)


def markdown(table: pandas.DataFrame) -> str:
    """Write a table of texts in Markdown, with a line end."""
    head = list(table.columns)
    lines = [head, ["---"] * len(head), *table.itertuples(index=False, name=None)]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def percent(share: float | None) -> str:
    """Format a share in percent; a dash where it is not known."""
    return "-" if share is None or pandas.isna(share) else f"{100 * share:.1f}"


def keep_name(keep: float | int | str) -> str:
    """Format a keep as the command line takes it."""
    return keep if isinstance(keep, str) else f"{keep:g}"
