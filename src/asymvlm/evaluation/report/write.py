"""Write the results of an evaluation as tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas
from rich.console import Console

from ...storage.atomic import draft_file
from .results import Row
from .summary import summary
from .tables import csv, keep_name, markdown, percent, show, visible


def results_table(rows: Sequence[Row]) -> pandas.DataFrame:
    """Format results as texts, one line per method, keep and task."""
    frame = pandas.DataFrame([asdict(row) for row in rows])
    entries = frame["kv_entries"]
    table = {
        "method": frame["method"],
        "keep": frame["keep_requested"].map(keep_name),
        "task": frame["task"],
        "n": frame["n"].map(str),
        "accuracy": frame["accuracy"].map(percent),
        "- dense (95 %)": frame["minus_dense"],
        "agree": frame["agreement"].map(percent),
        "evidence": frame["evidence_recall"].map(percent),
        "complete": frame["evidence_complete"].map(percent),
        "left": frame["keep_mean"].map(percent),
        "p95": frame["keep_p95"].map(percent),
        "per layer": frame["layer_average"].map(percent),
        "KV entries": entries.map(lambda n: "-" if pandas.isna(n) else f"{n:.0f}"),
        "LLM FLOPs saved": frame["llm_flops_saved"].map(percent),
        "all FLOPs saved": frame["flops_saved"].map(percent),
        "prefill / dense": (frame["prefill_ms"] / frame["dense_prefill_ms"]).map("{:.2f}".format),
    }
    return pandas.DataFrame(table)


def write_tables(
    rows: Sequence[Row], out: Path, about: dict[str, Any], notes: Sequence[str]
) -> None:
    """Print the results and write them as table.md, table.tex, table.csv and summary.md.

    `about` is what all of them were measured with; `notes` stand below the table.
    """
    table = results_table(rows)
    show(", ".join(f"{key} {value}" for key, value in about.items()), table, width=200)
    legend = "shares and accuracies in %; left: of the vision tokens, in the last layer; "
    notes = [*notes, legend + "per layer: on average over the layers"]
    for note in notes:
        Console(width=200).print(note, markup=False)
    notes.append("; ".join(f"{key}: {value}" for key, value in about.items()))
    texts = {
        "table.md": markdown(table) + "\n" + "".join(f"- {note}\n" for note in notes),
        "table.tex": table.map(visible).to_latex(index=False, escape=True),
        "table.csv": csv(pandas.DataFrame([row.columns() for row in rows])),
        "summary.md": summary(rows),
    }
    for name, text in texts.items():
        with draft_file(out / name) as draft:
            draft.write_text(text, encoding="utf-8")
