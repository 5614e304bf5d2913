"""The Pareto picture: accuracy against the vision tokens that a layer sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas

from ...storage.atomic import draft_file
from .pictures import caption
from .results import Row

_COLOURS = ("#d62728", "#1f77b4", "#2ca02c", "#ff7f0e")  # ours, and the strongest others
_GREY = "#bbbbbb"
_OURS = ("learned", "recovered", "stage_two", "stage_one")
_ORACLES = ("oracle", "teacher", "evidence")


@dataclass(frozen=True)
class _End:
    """One end of a method's line, in tokens and percent."""

    name: str
    colour: str
    tokens: float
    accuracy: float


def pareto_picture(rows: Sequence[Row], path: Path, metric: str, vision_tokens: float) -> None:
    """Draw one panel a task: ours and the three strongest others in colour, the rest in grey.

    The horizontal axis counts tokens, on a logarithmic scale; labels are joined to their lines'
    ends. A star is a run whose keep ratio the method chose by itself. `vision_tokens` are those of
    a dense sample.
    """
    from matplotlib.figure import Figure

    frame = pandas.DataFrame([asdict(row) for row in rows])
    frame["tokens"] = frame["layer_average"] * vision_tokens
    shown = _coloured(frame)
    tasks = list(frame["task"].unique())
    columns = min(4, len(tasks))
    lines = -(-len(tasks) // columns)
    figure = Figure(figsize=(7 * columns, 5 * lines), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False).flatten()
    for panel in panels[len(tasks) :]:
        panel.axis("off")
    for panel, task in zip(panels, tasks, strict=False):
        _draw(panel, frame[frame["task"] == task], shown)
        panel.set_title(f"{caption(task)} (dotted: dense)", parse_math=False)
        panel.set_xlabel("vision tokens that a layer sees, on average")
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
    lines = []
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
            lines.append((str(name), colour, line))
    ticks = sorted({round(tokens) for tokens in frame["tokens"]})
    panel.set(xscale="log", ylim=(-2, 104))
    # Room for the labels.
    panel.set_xlim(min(ticks) / 3, max(ticks) * 2.5)
    lowest = min((line["tokens"].iloc[0] for _, _, line in lines), default=0.0)
    ends: dict[str, list[_End]] = {"left": [], "right": []}
    for name, colour, line in lines:
        # Lines that begin further right would have their left label among the others.
        side, at = ("left", 0) if line["tokens"].iloc[0] < 1.5 * lowest else ("right", -1)
        end = _End(name, colour, line["tokens"].iloc[at], 100 * line["accuracy"].iloc[at])
        ends[side].append(end)
    _label(panel, ends["left"], min(ticks) / 1.25, "right")
    _label(panel, ends["right"], max(ticks) * 1.15, "left")
    kept = [2**power for power in range(12) if min(ticks) <= 2**power <= max(ticks)]
    panel.set_xticks(kept or ticks, [f"{tick:g}" for tick in kept or ticks])
    panel.minorticks_off()


def _label(panel: Any, ends: list[_End], column: float, align: str) -> None:
    """Write the methods' names in one column at `column` tokens, each joined to its line's end."""
    ends = sorted(ends, key=lambda end: end.accuracy)
    for end, height in zip(ends, _spread([end.accuracy for end in ends]), strict=True):
        grey = end.colour == _GREY
        panel.annotate(
            caption(end.name),
            (end.tokens, end.accuracy),
            xytext=(column, height),
            ha=align,
            va="center",
            parse_math=False,
            fontsize=7 if grey else 9,
            color="#666666" if grey else end.colour,
            weight="normal" if grey else "bold",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},
            arrowprops={"arrowstyle": "-", "color": end.colour, "lw": 0.5, "shrinkB": 2},
        )


def _spread(wanted: Sequence[float], gap: float = 3.8, top: float = 102.0) -> list[float]:
    """Heights at least `gap` apart, near those `wanted` (ascending), at most `top`."""
    groups: list[list[float]] = []
    for height in wanted:
        groups.append([height])
        while len(groups) > 1 and _bottom(groups[-1], gap) < _bottom(groups[-2], gap) + gap * len(
            groups[-2]
        ):
            groups[-2:] = [groups[-2] + groups[-1]]
    heights = [_bottom(group, gap) + gap * at for group in groups for at in range(len(group))]
    for at in range(len(heights) - 1, -1, -1):
        heights[at] = min(heights[at], top)
        top = heights[at] - gap
    return heights


def _bottom(group: Sequence[float], gap: float) -> float:
    """Height of the lowest label when a group of them is centred where it was wanted."""
    return sum(group) / len(group) - gap * (len(group) - 1) / 2
