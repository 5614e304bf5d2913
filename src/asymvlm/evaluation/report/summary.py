"""The whole evaluation in one line a method."""

from __future__ import annotations

from collections.abc import Sequence

from .results import Row
from .tables import markdown


def summary(rows: Sequence[Row]) -> str:
    """A Markdown table.

    Accuracy in % of each group of questions (in the order of the first line) at each keep, dense
    first.

    "layers see" is the share of vision tokens that a layer of the LLM sees on average at the
    smallest keep: methods inside the LLM use more than they keep. "choosing" is the method's own
    MACs as a share of the dense prefill's, tower included.
    """
    tasks = list(dict.fromkeys(row.task for row in rows if row.task != "all")) or ["all"]
    keeps = list(dict.fromkeys(row.keep_requested for row in rows))
    by_place = {(row.method, row.keep_requested, row.task): row for row in rows}
    shares = [keep for keep in keeps if not isinstance(keep, str)]
    head = ["kept by", *(f"{keep:g}" if not isinstance(keep, str) else keep for keep in keeps)]
    head += [f"layers see, at {min(shares):g}"] if shares else []
    head += ["choosing"]
    dense = " / ".join(
        _percent(next(row for row in rows if row.task == task).dense_accuracy) for task in tasks
    )
    lines = []
    for method in dict.fromkeys(row.method for row in rows):
        cells = [method]
        for keep in keeps:
            found = [by_place.get((method, keep, task)) for task in tasks]
            cells.append(
                " / ".join(_percent(row.accuracy) for row in found if row is not None) or "-"
            )
            if isinstance(keep, str) and found[0] is not None:
                cells[-1] += (
                    " (keeps "
                    f"{' / '.join(_percent(row.keep_mean) for row in found if row is not None)})"
                )
        smallest = by_place.get((method, min(shares), tasks[0])) if shares else None
        cells += ["-" if smallest is None else _percent(smallest.layer_average)] if shares else []
        mine = next(row for row in rows if row.method == method)
        cells.append(
            "-"
            if mine.macs_prefill_dense is None
            else _percent(mine.macs_method / mine.macs_prefill_dense)
        )
        lines.append(cells)
    return f"Accuracy in %: {' / '.join(tasks)}. Dense: {dense}.\n\n{markdown(head, lines)}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"
