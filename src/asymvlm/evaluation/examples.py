"""One page of examples: what each method kept of the same pages."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from ..documents import Sample
from ..methods import Method
from ..pruning import choose
from ..teacher import Teacher
from .answers import tell
from .pictures import boxed, kept_map


def examples_picture(
    teacher: Teacher, asked: Sequence[Sample], methods: dict[str, Method], keep: float, path: Path, count: int = 4
) -> None:
    """A row per question (of different kinds), a column per method; the first column is the page with its evidence boxes."""
    from matplotlib.figure import Figure

    first_of_kind = {sample.kind: sample for sample in reversed(asked)}
    chosen = [first_of_kind[kind] for kind in sorted(first_of_kind)][:count]
    figure = Figure(figsize=(2.2 * (len(methods) + 1), 2.6 * len(chosen)), layout="constrained")
    panels = figure.subplots(len(chosen), len(methods) + 1, squeeze=False)
    for row, sample in enumerate(chosen):
        prompts = teacher.prompter([sample.image], [sample.question])
        with torch.no_grad():
            encoded = teacher.backbone.encode(prompts.inputs)
            layout = teacher.backbone.layout(prompts.inputs, encoded)
            shown = [("page", np.asarray(boxed(sample)))]
            for name, method in methods.items():
                tell(method, [sample], layout.grids)
                kept = choose(teacher.backbone, method, keep, prompts.inputs, encoded, layout)[0].index
                shown.append((name, kept_map(sample.image, layout.grids[0], kept)))
        for panel, (name, picture) in zip(panels[row], shown, strict=True):
            panel.imshow(picture)
            panel.set_axis_off()
            asked_for = textwrap.fill(f"{sample.question} {sample.answers[0]}", 34)
            panel.set_title(asked_for if name == "page" else name, fontsize=7)
    figure.savefig(path, dpi=110)
