"""The Pareto picture: accuracy against the vision tokens that a layer sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas

from ...storage.atomic import draft_file
from .results import Row

_COLOURS = ("#d62728", "#1f77b4", "#2ca02c", "#ff7f0e")  # ours, and the strongest others
_GREY = "#bbbbbb"
_OURS = ("learned", "recovered", "stage_two", "stage_one")
_ORACLES = ("oracle", "teacher", "evidence")


def pareto_picture(rows: Sequence[Row], path: Path, metric: str, vision_tokens: float) -> None:
    """Draw one panel a task: ours and the three strongest others in colour, the rest in grey.

    The horizontal axis counts tokens, on a logarithmic scale; lines have their labels at the end.
    A star is a run whose keep ratio the method chose by itself. `vision_tokens` are those of a
    dense sample.
    """
    from matplotlib.figure import Figure

    frame = pandas.DataFrame([asdict(row) for row in rows])
    frame["tokens"] = frame["layer_average"] * vision_tokens
    shown = _coloured(frame)
    tasks = list(frame["task"].unique())
    figure = Figure(figsize=(7 * len(tasks), 5), layout="constrained")
    panels = figure.subplots(1, len(tasks), squeeze=False)[0]
    for panel, task in zip(panels, tasks, strict=True):
        _draw(panel, frame[frame["task"] == task], shown)
        panel.set(title=task, xlabel="vision tokens that a layer sees, on average")
    panels[0].set_ylabel(f"{metric}, %")
    with draft_file(path) as draft:
        figure.savefig(draft, dpi=110)


def _coloured(frame: pandas.DataFrame) -> dict[str, str]:
    """Colours by method: ours first, then the others with the highest mean accuracy."""
    fixed = frame[~frame["keep_requested"].map(lambda keep: isinstance(keep, str))]
    mean = fixed.groupby("method")["accuracy"].mean().sort_values(ascending=False, kind="stable")
    ours = [name for name in mean.index if str(name).startswith(_OURS)][:1]
    others = [name for name in mean.index if not str(name).startswith((*_OURS, *_ORACLES))]
    return dict(zip([*ours, *others[:3]], _COLOURS, strict=False))


def _draw(panel: Any, frame: pandas.DataFrame, shown: dict[str, str]) -> None:
    panel.axhline(100 * frame["dense_accuracy"].iloc[0], color="black", linestyle=":", lw=1)
    ends = []
    # Grey ones first, so that colours lie above them.
    for name, group in sorted(
        frame.groupby("method", sort=False), key=lambda pair: pair[0] in shown
    ):
        chosen = group["keep_requested"].map(lambda keep: isinstance(keep, str))
        colour, strong = shown.get(str(name), _GREY), name in shown
        line = group[~chosen].sort_values("tokens")
        look = {"color": colour, "lw": 2 if strong else 1, "marker": "o", "ms": 4 if strong else 2}
        panel.plot(line["tokens"], 100 * line["accuracy"], **look)
        stars = group[chosen]
        panel.plot(stars["tokens"], 100 * stars["accuracy"], "*", color=colour, ms=9)
        if len(line):
            ends.append((100 * line["accuracy"].iloc[0], line["tokens"].iloc[0], str(name), colour))
    _label(panel, ends)
    ticks = sorted({round(tokens) for tokens in frame["tokens"]})
    panel.set(xscale="log", ylim=(0, 102))
    panel.set_xlim(min(ticks) / 3, max(ticks) * 1.15)  # room for the labels
    kept = [2**power for power in range(12) if min(ticks) <= 2**power <= max(ticks)]
    panel.set_xticks(kept or ticks, [f"{tick:g}" for tick in kept or ticks])
    panel.minorticks_off()


def _label(panel: Any, ends: list[tuple[float, float, str, str]]) -> None:
    """Write names at the lines' left ends, moved apart where they would overlap."""
    lowest = 104.0
    for accuracy, tokens, name, colour in sorted(ends, reverse=True):
        lowest = min(accuracy, lowest - 3.4)
        panel.annotate(
            f"{name} ",
            (tokens, accuracy),
            xytext=(tokens / 1.12, lowest),
            ha="right",
            va="center",
            fontsize=8 if colour != _GREY else 6.5,
            color="#777777" if colour == _GREY else colour,
            weight="bold" if colour != _GREY else "normal",
        )
