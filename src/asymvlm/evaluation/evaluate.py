"""Evaluate methods at keeps and tasks on held-out pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..distillation.teacher import Teacher
from ..documents.sources.source import DataSource, as_data_flags
from ..documents.world.generated import fingerprint
from ..errors import DataError
from ..limits import check_at_least, check_named, check_share
from ..methods import Learned, Method
from ..selectors import Keep, check_keep
from ..storage.atomic import check_results
from .answer_cache import AnswerCache
from .answers import pruned_prefill
from .as_function import as_function
from .comparison import check_comparisons, write_comparisons
from .cost.equal_cost import Equal, at_equal_cost
from .cost.latency import latency, method_macs
from .metrics import AnswerMetric
from .questions import (
    check_questions,
    held_out,
    metric_named,
    scores_of,
    tasks_of,
    usable_questions,
)
from .report.example_figures import examples_pictures
from .report.pareto import pareto_picture
from .report.results import Costs, Row, ScoredRun, result_row
from .report.tables import deviation_notes
from .report.write import write_tables
from .run_log import write_json
from .tracking import log_to_wandb
from .trained_scorer import named_scorer

_TABLES = ("results.json", "latency.json", "summary.md", "table.md", "table.csv", "table.tex")
_PICTURES = ("pareto.png", "examples.png", "heat_maps.png")


class Run(NamedTuple):
    """A method at a keep, under the name that is reported."""

    name: str
    method: Method
    keep: Keep


@dataclass
class Evaluation:
    """Evaluate methods against the dense model.

    What is there from an interrupted run with the same settings is not done again.

    Args:
        teacher: Directory or repository of the VLM.
        scorer: Directory of a trained scorer, evaluated as `learned`, and as `recovered` with an
            adapter beside it; null leaves it out.
        methods: Further methods by the name under which they are reported.
        keeps: Shares, counts, "auto" or "gap"; the last two for methods that have a budget or
            scores. A half down to a sixteenth if left out.
        equal: What a keep means for methods inside the LLM: tokens "left" at the end,
            "layer_average", or "flops" of the LLM's prefill.
        data: Where pages come from, as in training; the generated world if left out.
        split: Split to evaluate on.
        pages: Generated pages.
        metric: How answers are scored: anls, cider, contains, exact_match, relaxed_accuracy or
            vqa_accuracy.
        longest_answer: Tokens that are generated at most.
        batch_size: Questions per batch; an interrupted run loses at most one.
        latency_batches: Batch sizes at which times are taken; the first is the one in the table. 8
            and 1 if left out.
        examples_keep: Share kept in the pictures of examples.
        show_pages: Whether the pictures show the pages; false draws on blank paper, for pages that
            must not be published.
        output: Where results.json, the tables and the pictures go.
        compare: Pairs of methods whose paired difference goes to comparison.md too; a name with *
            stands for the mean of several runs.
        wandb_project: Project in Weights & Biases to which tables and pictures go too; null leaves
            it out.
    """

    teacher: str = "checkpoints/tiny-teacher"
    scorer: str | None = "checkpoints/tiny/scorer"
    methods: dict[str, Method] | None = None
    keeps: list[int | float | str] | None = None
    equal: Equal = "left"
    data: DataSource = field(default_factory=DataSource)
    split: str = "test"
    pages: int = 200
    metric: str = "exact_match"
    longest_answer: int = 8
    batch_size: int = 40
    latency_batches: list[int] | None = None
    examples_keep: float = 0.125
    show_pages: bool = True
    output: str = "results/tiny"
    compare: list[tuple[str, str]] | None = None
    wandb_project: str | None = None

    def __post_init__(self) -> None:
        check_questions(self)
        check_at_least(1, {"batch_size": self.batch_size})
        check_named({"keeps": self.keeps, "latency_batches": self.latency_batches})
        for size in self.latency_batches or []:
            check_at_least(1, {"latency_batches": size})
        for keep in self.keeps or []:
            check_keep(keep, "keeps")  # type: ignore[arg-type]
        check_share({"examples_keep": self.examples_keep})

    def run(self) -> list[Row]:
        """Answer, measure and report; returns one row per method, keep and task."""
        keeps: list[Keep] = self.keeps or [0.5, 0.25, 0.125, 0.0625]  # type: ignore[assignment]
        metric = metric_named(self.metric)
        out = check_results(Path(self.output), _TABLES + _PICTURES, "answers")
        methods = self._all_methods()
        check_comparisons(self.compare or [], list(methods))
        with as_data_flags():
            self.data.check_root()
        teacher = Teacher.load(self.teacher)
        pages, skipped = held_out(self.data, self.split, self.pages, metric)
        basis = {"pages": fingerprint(pages), "teacher": teacher.description()}
        questions = usable_questions(pages, skipped, out)
        cache = AnswerCache(teacher, questions, out, basis, self.batch_size, self.longest_answer)
        runs, left_out = runs_that_work(cache, methods, keeps, self.equal)
        rows, scored, slower = self._measure(cache, runs, metric)
        about = {
            "teacher": self.teacher,
            "fingerprint": fingerprint(pages),
            "pages": len(pages),
            "questions": len(questions),
            "seed": self.data.seed,
            "metric": self.metric,
            "equal": self.equal,
        }
        notes = [f"{name}: left out, {why}" for name, why in left_out.items()]
        notes += deviation_notes({run.name: methods[run.name] for run in runs})
        if slower:
            notes.append(f"slower than dense with its prefill and 8 tokens: {', '.join(slower)}")
        shown = [row for row in rows if row.kind is None]
        write_tables(shown, out, about, notes)
        tokens = float(np.mean([answer.vision_tokens for answer in scored[0].answers]))
        pareto_picture(shown, out / "pareto.png", self.metric, tokens)
        pictured = {run.name: methods[run.name] for run in runs}
        examples_pictures(teacher, questions, pictured, self.examples_keep, out, self.show_pages)
        if self.compare:
            tasks = [(task.label, task.index) for task in tasks_of(questions) if task.kind is None]
            pages_of = [question.page for question in questions]
            write_comparisons(self.compare, scored, pages_of, tasks, out / "comparison.md")
        if self.wandb_project is not None:
            log_to_wandb(self.wandb_project, rows, out, about)
        print(f"results: {out}/{', '.join((*_TABLES, *_PICTURES))}")
        return rows

    def _all_methods(self) -> dict[str, Method]:
        own: dict[str, Method] = {}
        if self.scorer is not None:
            trained = named_scorer(self.scorer)
            own["learned"] = Learned(trained)
            if trained.adapter:
                own["recovered"] = Learned(trained, adapter=True)
        methods = own | (self.methods or {})
        if not methods:
            raise ValueError("methods: nothing to evaluate; name a scorer or at least one method")
        return methods

    def _measure(
        self, cache: AnswerCache, runs: Sequence[Run], metric: AnswerMetric
    ) -> tuple[list[Row], list[ScoredRun], list[str]]:
        """Answer and time every run; returns rows, scored answers and the runs that are slower."""
        questions, model = cache.questions, cache.teacher.model
        dense_answers = cache.answers("dense", None, 1.0)
        dense = ScoredRun("dense", 1.0, dense_answers, scores_of(metric, dense_answers, questions))
        rows: list[Row] = []
        scored: list[ScoredRun] = []
        times: list[dict[str, Any]] = []
        for run in runs:
            answers = cache.answers(*run, self.equal)
            done = ScoredRun(run.name, run.keep, answers, scores_of(metric, answers, questions))
            taken = [
                latency(cache.teacher, questions[:size], run.method, run.keep)
                for size in self.latency_batches or [8, 1]
            ]
            macs = method_macs(cache.teacher, questions[0], run.method, run.keep)
            costs = Costs(model.config, macs, taken[0])
            for task in tasks_of(questions):
                pages = [questions[place].page for place in task.index]
                both = done.of(task.index), dense.of(task.index)
                rows.append(result_row(task, *both, pages, costs))
            scored.append(done)
            about = {"method": run.name, "keep": run.keep}
            times += [{**about, **asdict(time), "is_slower": time.is_slower} for time in taken]
            write_json(cache.out / "results.json", [asdict(row) for row in rows])
            write_json(cache.out / "latency.json", times)
        slower = [time for time in times if time["is_slower"]]
        named = [f"{item['method']} @ {item['keep']}, batch of {item['batch']}" for item in slower]
        return rows, scored, named


evaluate = as_function("evaluate", Evaluation)


def runs_that_work(
    cache: AnswerCache, methods: dict[str, Method], keeps: Sequence[Keep], equal: Equal
) -> tuple[list[Run], dict[str, str]]:
    """Try every method on the first question; returns what can run, and why the rest cannot."""
    runs, left_out = [], {}
    teacher, first = cache.teacher, cache.questions[:1]
    text_tokens = int(teacher.backbone.layout(teacher.inputs(first)).text.sum())
    for name, method in methods.items():
        fair = at_equal_cost(method, equal, teacher.model.config, text_tokens)
        for keep in keeps:
            if isinstance(keep, str) and not _accepts(method, keep):
                continue
            try:
                pruned_prefill(teacher, first[0], fair, keep)
            except (ValueError, DataError) as error:
                left_out[f"{name} @ {keep}"] = str(error)
            else:
                runs.append(Run(name, fair, keep))
    if not runs:
        reasons = "; ".join(f"{name}: {why}" for name, why in left_out.items())
        raise ValueError(f"methods: none can act here. {reasons}")
    return runs, left_out


def _accepts(method: Method, keep: str) -> bool:
    """Return whether a method has a budget of its own, or scores with gaps."""
    if method.layer is not None:
        return False
    if keep == "auto":
        return type(method).budget is not Method.budget
    return type(method).select is Method.select
