"""Tables and pictures of an evaluation."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from ...storage.atomic import draft_file
from .results import Row
from .summary import summary
from .tables import markdown, show

_HEAD = (
    "method", "keep", "task", "n", "accuracy", "- dense (95 %)", "agree", "evidence", "complete",
    "left", "p95", "per layer", "KV entries",
    "LLM FLOPs saved", "all FLOPs saved", "prefill / dense",
)  # fmt: skip

_MARKERS = "os^"  # twenty colours each


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.method,
        f"{row.keep_requested:g}"
        if not isinstance(row.keep_requested, str)
        else row.keep_requested,
        row.task,
        str(row.n),
        _percent(row.accuracy),
        row.minus_dense,
        _percent(row.agreement),
        _percent(row.evidence_recall),
        _percent(row.evidence_complete),
        _percent(row.keep_mean),
        _percent(row.keep_p95),
        _percent(row.layer_average),
        "-" if row.kv_entries is None else f"{row.kv_entries:.0f}",
        _percent(row.llm_flops_saved),
        _percent(row.flops_saved),
        f"{row.prefill_ms / row.dense_prefill_ms:.2f}",
    )


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


def write_tables(
    rows: Sequence[Row],
    out: Path,
    about: dict[str, Any],
    left_out: dict[str, str],
    slower: Sequence[str],
) -> None:
    """Print the table.

    Write it as table.md and table.tex, one line a method as summary.md, and all that is known as
    table.csv.

    `left_out` are methods that cannot act on this model and why, `slower` those that cost more time
    than they save.
    """
    notes = [f"{name}: left out, {why}" for name, why in left_out.items()]
    notes += (
        [f"slower than dense with its prefill and 8 tokens: {', '.join(slower)}"] if slower else []
    )
    notes.append(
        "shares and accuracies in %; left: of the vision tokens, in the last layer; per layer: on "
        "average over the layers"
    )
    lines = [_cells(row) for row in rows]
    show(", ".join(f"{key} {value}" for key, value in about.items()), _HEAD, lines, width=200)
    console = Console(width=200)
    for note in notes:
        console.print(note, markup=False)
    notes.append("; ".join(f"{key}: {value}" for key, value in about.items()))
    lines_of_notes = [f"- {note}" for note in notes]
    texts = {
        "table.md": "\n".join([markdown(_HEAD, lines), *lines_of_notes, ""]),
        "table.tex": _latex(rows),
        "summary.md": summary(rows),
    }
    for name, text in texts.items():
        with draft_file(out / name) as draft:
            draft.write_text(text, encoding="utf-8")
    with (
        draft_file(out / "table.csv") as draft,
        draft.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.DictWriter(file, fieldnames=list(asdict(rows[0])))
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)


def _latex(rows: Sequence[Row]) -> str:
    def line(cells: Sequence[str]) -> str:
        return " & ".join(cell.replace("_", r"\_").replace("%", r"\%") for cell in cells) + r" \\"

    body = [line(_cells(row)) for row in rows]
    columns = "l" + "r" * (len(_HEAD) - 1)
    return "\n".join(
        [
            rf"\begin{{tabular}}{{{columns}}}",
            r"\hline",
            line(_HEAD),
            r"\hline",
            *body,
            r"\hline",
            r"\end{tabular}",
            "",
        ]
    )


def pareto_picture(rows: Sequence[Row], path: Path, metric: str) -> None:
    """Accuracy against the mean share that a layer sees, one panel a task, one line a method."""
    import matplotlib
    from matplotlib.figure import Figure

    colours = matplotlib.colormaps["tab20"].colors  # type: ignore[attr-defined]
    tasks = list(dict.fromkeys(row.task for row in rows))
    methods = list(dict.fromkeys(row.method for row in rows))
    figure = Figure(
        figsize=(5 * len(tasks), max(4.0, 0.21 * len(methods))), layout="constrained"
    )  # the legend is a line a method
    panels = figure.subplots(1, len(tasks), squeeze=False)[0]
    for panel, task in zip(panels, tasks, strict=True):
        mine = [row for row in rows if row.task == task]
        panel.axhline(100 * mine[0].dense_accuracy, color="grey", linestyle=":", label="dense")
        for number, method in enumerate(methods):
            look = {
                "marker": _MARKERS[number // 20],
                "color": colours[number % 20],
                "label": method,
            }
            points = sorted(
                (row.layer_average, row.accuracy, row.keep_requested)
                for row in mine
                if row.method == method
            )
            fixed = [point for point in points if not isinstance(point[2], str)]
            panel.plot([p[0] for p in fixed], [100 * p[1] for p in fixed], **look)
            for share, accuracy, name in points:
                if isinstance(name, str):
                    panel.plot(
                        share, 100 * accuracy, marker="*", markersize=12, color=colours[number % 20]
                    )
                    panel.annotate(name, (share, 100 * accuracy))
        panel.set(
            title=task,
            xlabel="share of vision tokens that a layer sees",
            xscale="log",
            ylim=(0, 102),
        )
        panel.set_xticks(
            sorted({row.keep_requested for row in mine if isinstance(row.keep_requested, float)}),
            minor=False,
        )
        panel.xaxis.set_major_formatter(lambda value, _: f"{value:.3g}")
        panel.minorticks_off()
    panels[0].set_ylabel(f"{metric}, %")
    figure.legend(*panels[-1].get_legend_handles_labels(), loc="outside right upper", fontsize=8)
    with draft_file(path) as draft:
        figure.savefig(draft, dpi=110)
