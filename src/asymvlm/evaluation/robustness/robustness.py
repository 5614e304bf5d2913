"""Accuracy under corruptions: `python -m asymvlm.evaluation.robustness`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ...checkpoint.scorer import load_scorer
from ...cli.command import call_from_flags, run_command
from ...distillation.teacher import Teacher
from ...documents import samples
from ...documents.sources.source import DataSource
from ...documents.world.generated import fingerprint
from ...methods import Learned, Method
from ...methods import methods as method_registry
from ...selectors import check_keep
from ...storage.atomic import check_results, draft_file
from ..bootstrap import paired_difference
from ..evaluate import AnswerCache, held_out, judge_named
from ..run_log import write_json
from .corruptions import PICTURE_CORRUPTIONS, corrupt
from .rewordings import REWORDINGS

DEFAULT_CONFIG = "eval/robustness"


@dataclass
class RobustnessRow:
    """One method under one corruption; `dense_accuracy` is on the same corrupted questions."""

    method: str
    corruption: str
    severity: int
    n: int
    accuracy: float
    dense_accuracy: float
    minus_dense: str  # points, with the paired 95 % interval


def robustness(
    teacher: str = "checkpoints/tiny-teacher",
    scorer: str | None = "checkpoints/tiny/scorer",
    methods: dict[str, Method] | None = None,
    keep: float | int = 0.125,
    corruptions: list[str] | None = None,
    severities: list[int] | None = None,
    data: DataSource = DataSource(),  # noqa: B008 - nobody changes it
    split: str = "test",
    pages: int = 60,
    metric: str = "exact_match",
    longest_answer: int = 8,
    batch_size: int = 40,
    output: str = "results/robustness",
) -> list[RobustnessRow]:
    """Measure accuracy under every corruption at several severities; continues where it stopped.

    Args:
        teacher: Directory or repository of the VLM.
        scorer: Directory of a trained scorer, evaluated as `learned`; null leaves it out.
        methods: Further methods by the name under which they are reported.
        keep: Share or count of vision tokens.
        corruptions: Of pictures (gaussian_noise, gaussian_blur, occlusion, jpeg, low_contrast) and
            of questions (paraphrase, distractor, typos); all if left out.
        severities: From 1 to 5; 1, 3 and 5 if left out. 0, nothing spoilt, is always there.
        data: Where pages come from, as in training; the generated world if left out. Its seed is
            that of the corruptions, too.
        split: Split to evaluate on.
        pages: Generated pages.
        metric: How answers are judged, as for eval.py.
        longest_answer: Tokens that are generated at most.
        batch_size: Questions per batch.
        output: Where robustness.json and robustness.png go.
    """
    share = check_keep(keep)
    judge = judge_named(metric)
    out = check_results(Path(output), ("robustness.json", "robustness.png"), "answers")
    known = [*PICTURE_CORRUPTIONS, *REWORDINGS]
    wanted = corruptions or known
    for name in wanted:
        if name not in known:
            raise ValueError(f"corruptions: {name!r} is not one of {', '.join(known)}")
    if "dense" in (methods or {}):
        raise ValueError(
            "methods: dense is the name of the model without a method; give yours another one"
        )
    chosen: dict[str, Method | None] = {"dense": None, **(methods or {})}
    if scorer is not None:
        chosen["learned"] = Learned(load_scorer(scorer))
    side = Teacher.load(teacher)
    dataset = held_out(data, split, pages, judge)
    clean, seed = list(samples(dataset)), data.seed
    basis = {"pages": fingerprint(dataset), "teacher": side.description()}
    points: list[RobustnessRow] = []
    for corruption in wanted:
        for severity in [0, *(severities or [1, 3, 5])]:
            asked = [corrupt(sample, corruption, severity, seed) for sample in clean]
            tag = f"{corruption}-{severity}" if severity else "clean"
            bench = AnswerCache(side, asked, out, basis, batch_size, longest_answer)
            right = {}
            for name, method in chosen.items():
                given = bench.answers(name, method, share if method is not None else 1.0, tag, seed)
                right[name] = judge.scores(
                    [one.text for one in given], [sample.answers for sample in asked]
                )
            pages_of = [sample.page for sample in asked]
            points += [
                RobustnessRow(name, corruption, severity, len(asked), float(np.mean(marks)),
                float(np.mean(right["dense"])),
                      str(paired_difference(marks, right["dense"], pages_of)))
                for name, marks in right.items()
            ]  # fmt: skip
        write_json(out / "robustness.json", [asdict(point) for point in points])
    robustness_picture(points, out / "robustness.png", f"{metric} at keep {keep}, %")
    print(f"results: {out}/robustness.json, robustness.png")
    return points


def robustness_picture(points: Sequence[RobustnessRow], path: Path, title: str) -> None:
    """Draw one panel a corruption, one curve a method."""
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(point.corruption for point in points))
    rows = (len(names) + 3) // 4
    figure = Figure(figsize=(14, 3 * rows), layout="constrained")
    panels = figure.subplots(rows, 4, squeeze=False).flatten()
    for panel in panels[len(names) :]:
        panel.axis("off")
    for panel, name in zip(panels, names, strict=False):
        mine = [point for point in points if point.corruption == name]
        for method in dict.fromkeys(point.method for point in mine):
            curve = [
                (point.severity, 100 * point.accuracy) for point in mine if point.method == method
            ]
            panel.plot(
                *zip(*curve, strict=True),
                marker="o",
                label=method,
                color="grey" if method == "dense" else None,
            )
        panel.set(title=name, ylim=(0, 102), xticks=sorted({point.severity for point in mine}))
    panels[0].set_ylabel(title)
    panels[0].legend(fontsize=7)
    with draft_file(path) as draft:
        figure.savefig(draft, dpi=110)


def main() -> None:
    """Run the command and end the process with its exit code."""
    sys.exit(
        run_command(
            lambda arguments: call_from_flags(
                robustness, arguments, DEFAULT_CONFIG, (method_registry,)
            )
        )
    )
