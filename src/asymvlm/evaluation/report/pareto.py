"""The Pareto picture: accuracy against the vision tokens that a layer sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
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
_OTHERS = "other methods"
_WITH_ANSWER = "oracles"
_DENSE = "dense model"
_CHOSEN = "keep per question"
# At 100 pixels per inch, the width at which README shows pictures; saved at twice that.
_WIDTH, _DPI = 8.8, 200
_IN_A_ROW = 3
_LONGEST = 30  # letters of a name


def pareto_picture(rows: Sequence[Row], path: Path, metric: str, vision_tokens: float) -> None:
    """Draw one panel a task: ours and the three strongest others in colour, the rest in grey.

    The horizontal axis counts tokens, on a logarithmic scale. A star is a run whose keep ratio the
    method chose by itself. `vision_tokens` are those of a dense sample.
    """
    figure = pareto_figure(rows, metric, vision_tokens)
    with draft_file(path) as draft:
        figure.savefig(draft, dpi=_DPI)


def pareto_figure(rows: Sequence[Row], metric: str, vision_tokens: float) -> Any:
    """Make the figure of `pareto_picture`."""
    from matplotlib.figure import Figure

    frame = pandas.DataFrame([asdict(row) for row in rows])
    frame["tokens"] = frame["layer_average"] * vision_tokens
    frame["chosen"] = frame["keep_requested"].map(lambda keep: isinstance(keep, str))
    colours = _coloured(frame)
    tasks = list(frame["task"].unique())
    columns = min(_IN_A_ROW, len(tasks))
    lines = -(-len(tasks) // columns)
    figure = Figure(figsize=(_WIDTH, 3.2 * lines + 1.0), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True).flatten()
    for panel in panels[len(tasks) :]:
        panel.axis("off")
    entries: dict[str, Any] = {}
    for panel, task in zip(panels, tasks, strict=False):
        entries |= _draw(panel, frame[frame["task"] == task], colours)
        panel.set_title(caption(task, 32), parse_math=False)
        panel.set_xlabel("vision tokens per LLM layer")
    _scale(panels[0], frame["tokens"])
    figure.supylabel(f"{metric}, %", fontsize=11, parse_math=False)
    _legend(figure, entries, [caption(name, _LONGEST) for name in colours])
    return figure


def _coloured(frame: pandas.DataFrame) -> dict[str, str]:
    """Colours by method: ours first, then the others with the highest mean accuracy."""
    mean = frame[~frame["chosen"]].groupby("method")["accuracy"].mean()
    mean = mean.sort_values(ascending=False, kind="stable")
    ours = [name for name in mean.index if str(name).startswith(_OURS)][:1]
    others = [name for name in mean.index if not str(name).startswith((*_OURS, *_ORACLES))]
    return dict(zip([*ours, *others[:3]], _COLOURS, strict=False))


def _draw(panel: Any, frame: pandas.DataFrame, colours: dict[str, str]) -> dict[str, Any]:
    """Draw a task; returns an artist for each entry of the legend."""
    dense = 100 * frame["dense_accuracy"].iloc[0]
    entries = {_DENSE: panel.axhline(dense, color="black", linestyle=":", lw=1, zorder=1)}
    for name, group in frame.groupby("method", sort=False):
        line, stars = group[~group["chosen"]].sort_values("tokens"), group[group["chosen"]]
        style = _style(str(name), colours)
        shown = panel.plot(line["tokens"], 100 * line["accuracy"], marker="o", **style)
        if name in colours:
            entries[caption(str(name), _LONGEST)] = shown[0]
        else:
            entries.setdefault(_WITH_ANSWER if "dashes" in style else _OTHERS, shown[0])
        own = {"color": style["color"], "zorder": style["zorder"] + 5, "ms": 11}
        shown = panel.plot(stars["tokens"], 100 * stars["accuracy"], "*", mec="white", **own)
        if len(stars):
            entries.setdefault(_CHOSEN, shown[0])
    panel.grid(color="#eeeeee")
    return entries


def _style(name: str, colours: dict[str, str]) -> dict[str, Any]:
    """Style of a method's line: ours is the thinnest of the coloured ones, and on top of them."""
    if name not in colours:
        oracle = {"dashes": (3, 2)} if name.startswith(_ORACLES) else {}
        return {"color": _GREY, "lw": 1, "ms": 2, "zorder": 2, **oracle}
    place = list(colours).index(name)
    return {"color": colours[name], "lw": 2 + 0.8 * place, "ms": 4 + place, "zorder": 10 - place}


def _scale(panel: Any, tokens: pandas.Series) -> None:
    """Mark the axis in tokens; panels share it."""
    low, high = float(tokens.min()), float(tokens.max())
    kept = [2**power for power in range(16) if low * 0.99 <= 2**power <= high * 1.01]
    ticks = kept or sorted({round(value) for value in tokens})
    panel.set(xscale="log", xlim=(low / 1.3, high * 1.3), ylim=(-2, 104))
    panel.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    panel.minorticks_off()


def _legend(figure: Any, entries: dict[str, Any], coloured: Sequence[str]) -> None:
    """Name the lines below the panels, ours first and in bold."""
    names = [*coloured, *(name for name in entries if name not in coloured)]
    drawn = [name for name in names if name in entries]
    legend = figure.legend(
        [entries[name] for name in drawn],
        drawn,
        loc="outside lower center",
        ncols=min(3, len(drawn)),
        frameon=False,
        fontsize=10,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
        if text.get_text() in coloured[:1]:
            text.set_fontweight("bold")
