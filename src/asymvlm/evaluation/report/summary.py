"""The whole evaluation in one line a method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import pandas

from .results import Row
from .tables import escaped, keep_name, markdown, percent


def summary(rows: Sequence[Row]) -> str:
    """Write a Markdown table: accuracy in % of each task at each keep, dense first.

    "layers see" is the share of vision tokens that a layer of the LLM sees on average at the
    smallest keep: methods inside the LLM use more than they keep. "choosing" is the method's own
    MACs as a share of the dense prefill's, tower included.
    """
    frame = pandas.DataFrame([asdict(row) for row in rows])
    groups = frame[frame["group"].notna()]
    tasks = list((frame if groups.empty else groups)["task"].unique())
    dense = frame.groupby("task")["dense_accuracy"].first()
    table = _accuracies(frame, tasks)
    shares = [keep for keep in frame["keep_requested"] if not isinstance(keep, str)]
    if shares:
        smallest = frame[(frame["keep_requested"] == min(shares)) & (frame["task"] == tasks[0])]
        seen = smallest.set_index("method")["layer_average"].map(percent)
        name = f"layers see, at {keep_name(min(shares))}"
        table[name] = seen.reindex(table.index).fillna("-")
    first = frame.drop_duplicates("method").set_index("method")
    table["choosing"] = (first["macs_method"] / first["macs_prefill_dense"]).map(percent)
    table.insert(0, "kept by", table.index)
    title = f"Accuracy in %: {' / '.join(escaped(task, '/') for task in tasks)}. "
    title += f"Dense: {' / '.join(percent(dense[task]) for task in tasks)}."
    return f"{title}\n\n{markdown(table)}"


def _accuracies(frame: pandas.DataFrame, tasks: Sequence[str]) -> pandas.DataFrame:
    """Accuracies of all `tasks` by method and keep; a dash for what was not run."""
    known = frame[frame["task"].isin(tasks)].copy()
    known["keep"] = known["keep_requested"].map(keep_name)
    known["task"] = pandas.Categorical(known["task"], tasks)
    texts = {
        run: _cell(group.sort_values("task"))
        for run, group in known.groupby(["method", "keep"], sort=False)
    }
    table = pandas.Series(texts).unstack()
    order = frame["keep_requested"].map(keep_name).unique()
    return table.reindex(index=frame["method"].unique(), columns=order).fillna("-")


def _cell(group: pandas.DataFrame) -> str:
    """One accuracy per task; with the share kept, where the method chose that by itself."""
    accuracies = " / ".join(group["accuracy"].map(percent))
    if not isinstance(group["keep_requested"].iloc[0], str):
        return accuracies
    return f"{accuracies} (keeps {' / '.join(group['keep_mean'].map(percent))})"
