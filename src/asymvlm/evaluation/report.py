"""The table and the picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from .evaluate import Row

_HEAD = ("method", "keep", "task", "n", "accuracy", "- dense (95 %)", "agree", "evidence", "complete", "kept", "p95", "LLM FLOPs saved",
         "all FLOPs saved", "prefill / dense")  # fmt: skip


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.method,
        f"{row.keep_requested:g}" if not isinstance(row.keep_requested, str) else row.keep_requested,
        row.task,
        str(row.n),
        f"{100 * row.accuracy:.1f}",
        row.minus_dense,
        f"{100 * row.agreement:.1f}",
        "-" if row.evidence_recall is None else f"{100 * row.evidence_recall:.1f}",
        "-" if row.evidence_complete is None else f"{100 * row.evidence_complete:.1f}",
        f"{100 * row.keep_mean:.1f} %",
        f"{100 * row.keep_p95:.1f} %",
        f"{100 * row.llm_flops_saved:.1f} %",
        f"{100 * row.flops_saved:.1f} %",
        f"{row.prefill_ms / row.dense_prefill_ms:.2f}",
    )


def results_table(rows: Sequence[Row], path: Path, about: dict[str, Any]) -> None:
    """Print the table and write it as Markdown."""
    table = Table(title=", ".join(f"{key} {value}" for key, value in about.items()))
    for name in _HEAD:
        table.add_column(name, justify="left" if name in ("method", "task") else "right")
    for row in rows:
        table.add_row(*_cells(row))
    Console(width=180).print(table)
    lines = ["| " + " | ".join(_HEAD) + " |", "|" + "---|" * len(_HEAD)]
    lines += ["| " + " | ".join(_cells(row)) + " |" for row in rows]
    note = "; ".join(f"{key}: {value}" for key, value in about.items())
    path.write_text("\n".join([*lines, "", note, ""]), encoding="utf-8")


def pareto_picture(rows: Sequence[Row], path: Path) -> None:
    """Accuracy against mean share kept, one panel a task, one line a method."""
    from matplotlib.figure import Figure

    tasks = list(dict.fromkeys(row.task for row in rows))
    figure = Figure(figsize=(5 * len(tasks), 4), layout="constrained")
    panels = figure.subplots(1, len(tasks), squeeze=False)[0]
    methods = list(dict.fromkeys(row.method for row in rows))
    for panel, task in zip(panels, tasks, strict=True):
        mine = [row for row in rows if row.task == task]
        panel.axhline(100 * mine[0].dense_accuracy, color="grey", linestyle=":", label="dense")
        for number, method in enumerate(methods):
            points = sorted((row.keep_mean, row.accuracy, row.keep_requested) for row in mine if row.method == method)
            fixed = [point for point in points if not isinstance(point[2], str)]
            panel.plot([p[0] for p in fixed], [100 * p[1] for p in fixed], marker="o", color=f"C{number}", label=method)
            for share, accuracy, name in points:
                if isinstance(name, str):
                    panel.plot(share, 100 * accuracy, marker="*", markersize=12, color=f"C{number}")
                    panel.annotate(name, (share, 100 * accuracy))
        panel.set(title=task, xlabel="share of vision tokens kept", xscale="log", ylim=(0, 102))
        panel.set_xticks(sorted({row.keep_mean for row in mine if not isinstance(row.keep_requested, str)}), minor=False)
        panel.xaxis.set_major_formatter(lambda value, _: f"{value:.3g}")
        panel.minorticks_off()
    panels[0].set_ylabel("exact match, %")
    panels[-1].legend(fontsize=8)
    figure.savefig(path, dpi=110)
