"""Accuracy under corruptions: `python -m asymvlm.evaluation.robustness`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from ...cli.command import parameters_of, run_command
from ...distillation.teacher import Teacher
from ...documents.sources.source import DataSource, as_data_flags
from ...documents.world.generated import fingerprint
from ...limits import check_at_least, check_named, check_within
from ...methods import Learned, Method, methods
from ...selectors import check_keep
from ...storage.atomic import check_results, draft_file
from ..answer_cache import AnswerCache
from ..as_function import as_function
from ..bootstrap import paired_difference
from ..metrics import AnswerMetric
from ..questions import check_questions, held_out, metric_named, scores_of, usable_questions
from ..report.pictures import caption
from ..run_log import write_json
from ..trained_scorer import named_scorer
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


@dataclass
class RobustnessEvaluation:
    """Measure accuracy under every corruption at several severities; resumed where it stopped.

    Args:
        teacher: Directory or repository of the VLM.
        scorer: Directory of a trained scorer, evaluated as `learned`; null leaves it out.
        methods: Further methods by the name under which they are reported.
        keep: Share or count of vision tokens.
        corruptions: Of pictures (gaussian_noise, gaussian_blur, occlusion, jpeg, low_contrast) and
            of questions (paraphrase, distractor, typos); all if left out.
        severities: From 1 to 5; 1, 3 and 5 if left out. 0, no corruption, is always there.
        data: Where pages come from, as in training; the generated world if left out. Its seed is
            that of the corruptions, too.
        split: Split to evaluate on.
        pages: Generated pages.
        metric: How answers are scored, as for eval.py.
        longest_answer: Tokens that are generated at most.
        batch_size: Questions per batch.
        output: Where robustness.json and robustness.png go.
    """

    teacher: str = "checkpoints/tiny-teacher"
    scorer: str | None = "checkpoints/tiny/scorer"
    methods: dict[str, Method] | None = None
    keep: float | int = 0.125
    corruptions: list[str] | None = None
    severities: list[int] | None = None
    data: DataSource = field(default_factory=DataSource)
    split: str = "test"
    pages: int = 60
    metric: str = "exact_match"
    longest_answer: int = 8
    batch_size: int = 40
    output: str = "results/robustness"

    def __post_init__(self) -> None:
        check_questions(self)
        check_at_least(1, {"batch_size": self.batch_size})
        check_named({"corruptions": self.corruptions, "severities": self.severities})
        for severity in self.severities or []:
            check_within(1, 5, {"severities": severity})
        check_keep(self.keep)
        _known(self.corruptions)

    def run(self) -> list[RobustnessRow]:
        """Answer, compare and draw; returns one row per method, corruption and severity."""
        metric = metric_named(self.metric)
        out = check_results(Path(self.output), ("robustness.json", "robustness.png"), "answers")
        corruptions = _known(self.corruptions)
        methods = self._all_methods()
        with as_data_flags():
            self.data.check_root()
        teacher = Teacher.load(self.teacher)
        pages, skipped = held_out(self.data, self.split, self.pages, metric)
        basis = {"pages": fingerprint(pages), "teacher": teacher.description()}
        clean = usable_questions(pages, skipped, out)
        rows: list[RobustnessRow] = []
        for corruption in corruptions:
            for severity in [0, *(self.severities or [1, 3, 5])]:
                questions = [corrupt(item, corruption, severity, self.data.seed) for item in clean]
                cache = AnswerCache(
                    teacher, questions, out, basis, self.batch_size, self.longest_answer
                )
                rows += self._rows(cache, methods, metric, corruption, severity)
            write_json(out / "robustness.json", [asdict(row) for row in rows])
        robustness_picture(rows, out / "robustness.png", f"{self.metric} at keep {self.keep}, %")
        print(f"results: {out}/robustness.json, robustness.png")
        return rows

    def _all_methods(self) -> dict[str, Method | None]:
        if "dense" in (self.methods or {}):
            raise ValueError(
                "methods: dense is the name of the model without a method; give yours another one"
            )
        methods: dict[str, Method | None] = {"dense": None, **(self.methods or {})}
        if self.scorer is not None:
            methods["learned"] = Learned(named_scorer(self.scorer))
        return methods

    def _rows(
        self,
        cache: AnswerCache,
        methods: dict[str, Method | None],
        metric: AnswerMetric,
        corruption: str,
        severity: int,
    ) -> list[RobustnessRow]:
        tag = f"{corruption}-{severity}" if severity else "clean"
        questions, scores = cache.questions, {}
        for name, method in methods.items():
            keep = 1.0 if method is None else self.keep
            answers = cache.answers(name, method, keep, tag, self.data.seed)
            scores[name] = scores_of(metric, answers, questions)
        pages = [question.page for question in questions]
        dense = scores["dense"]
        return [
            RobustnessRow(
                method=name,
                corruption=corruption,
                severity=severity,
                n=len(questions),
                accuracy=float(np.mean(own)),
                dense_accuracy=float(np.mean(dense)),
                minus_dense=str(paired_difference(own, dense, pages)),
            )
            for name, own in scores.items()
        ]


robustness = as_function("robustness", RobustnessEvaluation)


def _known(corruptions: list[str] | None) -> list[str]:
    known = [*PICTURE_CORRUPTIONS, *REWORDINGS]
    for name in corruptions or []:
        if name not in known:
            raise ValueError(f"corruptions: {name!r} is not one of {', '.join(known)}")
    return corruptions or known


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
        own = [point for point in points if point.corruption == name]
        for method in dict.fromkeys(point.method for point in own):
            points_of = [point for point in own if point.method == method]
            severities = [point.severity for point in points_of]
            accuracies = [100 * point.accuracy for point in points_of]
            colour = "grey" if method == "dense" else None
            panel.plot(severities, accuracies, marker="o", color=colour)
        panel.set(title=name, ylim=(0, 102), xticks=sorted({point.severity for point in own}))
    panels[0].set_ylabel(title)
    shown = [caption(name) for name in dict.fromkeys(point.method for point in points)]
    # Labels of lines would be left out where they begin with an underscore.
    for text in panels[0].legend(panels[0].lines, shown, fontsize=7).get_texts():
        text.set_parse_math(False)
    with draft_file(path) as draft:
        figure.savefig(draft, dpi=110)


def main(arguments: list[str] | None = None, owns_process: bool | None = None) -> int:
    """Measure; returns the exit code."""
    return run_command(_evaluate, arguments, owns_process)


def _evaluate(arguments: list[str]) -> None:
    settings = parameters_of(
        RobustnessEvaluation, arguments, "robustness", DEFAULT_CONFIG, (methods,)
    )
    robustness(**settings)
