"""Figures of examples: what each method kept of the same pages, and its ranking."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from ...distillation.teacher import Teacher
from ...documents import Sample
from ...methods import Method
from ...pruning.report import PrunedCall
from ...storage.atomic import draft_file
from ..answers import pruned_prefill
from .pictures import caption, draw_boxes, heat_map, kept_map, rank_weight


@dataclass
class _Example:
    sample: Sample
    title: str
    calls: dict[str, PrunedCall]  # by method


def examples_pictures(
    teacher: Teacher,
    questions: Sequence[Sample],
    methods: dict[str, Method],
    keep: float,
    out: Path,
    show_pages: bool = True,
    count: int = 4,
) -> None:
    """Write `examples.png` (what is kept) and `heat_maps.png` (ranks) into `out`.

    A row per question, of different kinds; a column per method; the first column is the page with
    its evidence boxes. Without `show_pages` everything is drawn on blank paper and nothing that is
    printed on the page is said.
    """
    first_of_kind = {sample.kind: sample for sample in reversed(questions)}
    chosen = [first_of_kind[kind] for kind in sorted(first_of_kind)][:count]
    examples = [_example(teacher, sample, methods, keep, show_pages) for sample in chosen]
    _draw(
        examples,
        lambda image, call: kept_map(image, call.grids[0], call.kept[0]),
        out / "examples.png",
    )
    ranking = [
        replace(example, calls={name: call for name, call in example.calls.items() if _ranks(call)})
        for example in examples
    ]
    if any(item.calls for item in ranking):
        _draw(ranking, _heat, out / "heat_maps.png")


def _example(
    teacher: Teacher, sample: Sample, methods: dict[str, Method], keep: float, show_pages: bool
) -> _Example:
    calls = {
        name: pruned_prefill(teacher, sample, method, keep) for name, method in methods.items()
    }
    title = f"{sample.question} {sample.answers[0]}"
    if not show_pages:
        sample, title = (
            replace(sample, images=(Image.new("RGB", sample.image.size, "white"),)),
            sample.kind,
        )
    return _Example(sample, textwrap.fill(title, 34), calls)


def _ranks(call: PrunedCall) -> bool:
    """Return whether every token has a score; later stages in the LLM score what is left."""
    return call.scores[0] is not None and len(call.scores[0]) == call.before[0]


def _heat(image: Image.Image, call: PrunedCall) -> np.ndarray:
    scores = call.scores[0]
    assert scores is not None
    return heat_map(image, call.grids[0], rank_weight(scores, call.after[0]))


def _draw(
    examples: Sequence[_Example], panel: Callable[[Image.Image, PrunedCall], np.ndarray], path: Path
) -> None:
    from matplotlib.figure import Figure

    names = list(examples[0].calls)
    figure = Figure(figsize=(2.2 * (len(names) + 1), 2.6 * len(examples)), layout="constrained")
    panels = figure.subplots(len(examples), len(names) + 1, squeeze=False)
    for row, example in zip(panels, examples, strict=True):
        row[0].imshow(np.asarray(draw_boxes(example.sample)))
        row[0].set_title(example.title, fontsize=7, parse_math=False)
        for place, name in zip(row[1:], names, strict=True):
            place.imshow(panel(example.sample.image, example.calls[name]))
            place.set_title(caption(name, 34), fontsize=7, parse_math=False)
        for place in row:
            place.set_xticks([])
            place.set_yticks([])
    with draft_file(path) as draft:
        figure.savefig(draft, dpi=110)
