"""Tables for the terminal and in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

_WORDS = ("method", "policy", "against", "task")  # columns of words; the others are of numbers


def show(title: str, head: Sequence[str], lines: Sequence[Sequence[str]], width: int = 160) -> None:
    """Print a table."""
    table = Table(title=title)
    for name in head:
        table.add_column(name, justify="left" if name in _WORDS else "right")
    for line in lines:
        table.add_row(*line)
    Console(width=width).print(table)


def markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """The same as Markdown, with a line end."""
    return "".join("| " + " | ".join(line) + " |\n" for line in (head, ["---"] * len(head), *lines))
