"""Evaluate methods at keeps and tasks on held-out pages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import datasets

from ..checkpoint.scorer import load_scorer
from ..cli.progress import track
from ..distillation.teacher import Teacher
from ..documents import Sample, samples
from ..documents.sources.source import DataSource
from ..documents.world.generated import fingerprint
from ..errors import DataError
from ..methods import Learned, Method
from ..selectors import Keep, check_keep
from ..storage.atomic import check_results
from ..storage.fingerprint import describe
from .answers import Answer, answer, pruned_prefill
from .comparison import ScoredRun, check_comparisons, write_comparisons
from .cost.equal_cost import Equal, at_equal_cost
from .cost.latency import latency, method_macs
from .metrics import AnswerMetric, answer_metrics
from .report.example_figures import examples_pictures
from .report.pareto import pareto_picture, write_tables
from .report.results import Row
from .run_log import RunLog, write_json
from .tracking import log_to_wandb

_TABLES = ("results.json", "latency.json", "summary.md", "table.md", "table.csv", "table.tex")
_PICTURES = ("pareto.png", "examples.png", "heat_maps.png")


def evaluate(
    teacher: str = "checkpoints/tiny-teacher",
    scorer: str | None = "checkpoints/tiny/scorer",
    methods: dict[str, Method] | None = None,
    keeps: list[int | float | str] | None = None,
    equal: Equal = "left",
    data: DataSource = DataSource(),  # noqa: B008 - nobody changes it
    split: str = "test",
    pages: int = 200,
    metric: str = "exact_match",
    longest_answer: int = 8,
    batch_size: int = 40,
    latency_batches: list[int] | None = None,
    examples_keep: float = 0.125,
    show_pages: bool = True,
    output: str = "results/tiny",
    compare: list[tuple[str, str]] | None = None,
    wandb_project: str | None = None,
) -> list[Row]:
    """Evaluate methods against the dense model.

    What is there from an interrupted run with the same settings is not done again.

    Args:
        teacher: Directory or repository of the VLM.
        scorer: Directory of a trained scorer, evaluated as `learned`, and as `recovered` with an
            adapter beside it; null leaves it out.
        methods: Further methods by the name under which they are reported.
        keeps: Shares, counts, "auto" or "gap"; the last two for methods that have a budget or
            scores.
        equal: What a keep means for methods inside the LLM: tokens "left" at the end,
            "layer_average", or "flops" of the LLM's prefill.
        data: Where pages come from, as in training; the generated world if left out.
        split: Split to evaluate on.
        pages: Generated pages.
        metric: How answers are judged: anls, cider, contains, exact_match, relaxed_accuracy or
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
    given = keeps or [0.5, 0.25, 0.125, 0.0625]
    wanted: list[Keep] = [check_keep(keep) for keep in given]  # type: ignore[arg-type]
    judge = judge_named(metric)
    out = check_results(Path(output), _TABLES + _PICTURES, "answers")
    chosen = dict(methods or {})
    if scorer is not None:
        trained = load_scorer(scorer)
        own = {"learned": Learned(trained)} | (
            {"recovered": Learned(trained, adapter=True)} if trained.adapter else {}
        )
        chosen = own | chosen
    if not chosen:
        raise ValueError("methods: nothing to evaluate; name a scorer or at least one method")
    check_comparisons(compare or [], list(chosen))
    side = Teacher.load(teacher)
    dataset = held_out(data, split, pages, judge)
    asked = list(samples(dataset))
    bench = AnswerCache(
        side,
        asked,
        out,
        {"pages": fingerprint(dataset), "teacher": side.description()},
        batch_size,
        longest_answer,
    )
    runs, left_out = _runs(bench, chosen, wanted, equal)
    dense = bench.answers("dense", None, 1.0)
    pages_of, right_dense = [sample.page for sample in asked], _judged(judge, dense, asked)
    rows: list[Row] = []
    times: list[dict[str, Any]] = []
    judged: list[ScoredRun] = []
    for name, method, keep in runs:
        pruned = bench.answers(name, method, keep, equal)
        right = _judged(judge, pruned, asked)
        judged.append(ScoredRun(name, keep, pruned, right))
        macs = method_macs(side, asked[0], method, keep)
        taken = [latency(side, asked[:size], method, keep) for size in latency_batches or [8, 1]]
        times += [
            {"method": name, "keep": keep, **asdict(one), "is_slower": one.is_slower}
            for one in taken
        ]
        for task, index in tasks_of(asked):
            part = _Part(index)
            rows.append(
                Row.of(side.model.config, (name, keep), task, (part(pruned), part(dense)),
                (part(right), part(right_dense)),
                       part(pages_of), macs, taken[0])
            )  # fmt: skip
        write_json(out / "results.json", [asdict(row) for row in rows])
        write_json(out / "latency.json", times)
    about = {
        "teacher": teacher,
        "fingerprint": fingerprint(dataset),
        "pages": len(dataset),
        "questions": len(asked),
        "seed": data.seed,
    }
    about |= {"metric": metric, "equal": equal}
    write_tables([row for row in rows if "/" not in row.task], out, about, left_out, _slower(times))
    pareto_picture([row for row in rows if "/" not in row.task], out / "pareto.png", metric)
    examples_pictures(
        side, asked, {name: chosen[name] for name, _, _ in runs}, examples_keep, out, show_pages
    )
    if compare:
        tasks = [(task, index) for task, index in tasks_of(asked) if "/" not in task]
        write_comparisons(compare, judged, pages_of, tasks, out / "comparison.md")
    if wandb_project is not None:
        log_to_wandb(wandb_project, rows, out, about)
    print(
        f"results: {out}/results.json, latency.json, summary.md, table.md, table.csv, table.tex, "
        "pareto.png, examples.png, heat_maps.png"
    )
    return rows


class AnswerCache(NamedTuple):
    """A teacher, questions, and a folder of their answers."""

    teacher: Teacher
    asked: Sequence[Sample]
    out: Path
    basis: dict[
        str, Any
    ]  # what all answers depend on: pages and teacher, as `fingerprint` describes them
    batch_size: int
    longest: int

    def answers(self, name: str, method: Method | None, keep: Keep, *more: Any) -> list[Answer]:
        """Answer all questions of one run, from its file as far as it goes.

        `more` is what they depend on besides.
        """
        about = {**self.basis, "method": describe(method), "keep": keep, "more": list(more)}
        about |= {"batch_size": self.batch_size, "longest_answer": self.longest}
        log = RunLog(self.out / "answers", "@".join(map(str, (name, keep, *more))), about)
        with track(f"{name} @ {keep}", len(self.asked)) as advance:
            for start in range(0, len(self.asked), self.batch_size):
                batch = self.asked[start : start + self.batch_size]
                if not all(sample.key in log.answers for sample in batch):
                    log.add(answer(self.teacher, batch, method, keep, self.longest))
                advance(len(batch))
        return [log.answers[sample.key] for sample in self.asked]


def held_out(data: DataSource, split: str, pages: int, judge: AnswerMetric) -> datasets.Dataset:
    """Load the pages to evaluate on.

    Raises DataError where there are none, ValueError where the metric cannot judge them.
    """
    found, skipped = data.pages(split, pages)
    for line in skipped.lines():
        print(f"data.path {split}: {line}")
    judge.check([tuple(question["answers"]) for page in found["questions"] for question in page])
    return found


def _runs(
    bench: AnswerCache, chosen: dict[str, Method], wanted: Sequence[Keep], equal: Equal
) -> tuple[list[tuple[str, Method, Keep]], dict[str, str]]:
    """Try every method on the first question; returns what can run, and why the rest cannot."""
    runs, left_out = [], {}
    config = bench.teacher.model.config
    words = int(bench.teacher.backbone.layout(bench.teacher.inputs(bench.asked[:1])).text.sum())
    for name, method in chosen.items():
        fair = at_equal_cost(method, equal, config, words)
        for keep in wanted:
            if isinstance(keep, str) and not _has(method, keep):
                continue
            try:
                pruned_prefill(bench.teacher, bench.asked[0], fair, keep)
            except (ValueError, DataError) as error:
                left_out[f"{name} @ {keep}"] = str(error)
            else:
                runs.append((name, fair, keep))
    if not runs:
        raise ValueError(
            "methods: none can act here. "
            + "; ".join(f"{name}: {why}" for name, why in left_out.items())
        )
    return runs, left_out


def _has(method: Method, keep: str) -> bool:
    """Whether a method has a budget of its own, or scores with gaps."""
    if method.layer is not None:
        return False
    return (
        type(method).budget is not Method.budget
        if keep == "auto"
        else type(method).select is Method.select
    )


def judge_named(metric: str) -> AnswerMetric:
    """Look up a metric by name.

    Raises ValueError for another, naming those that there are.
    """
    known = answer_metrics()
    if metric not in known:
        raise ValueError(f"metric: {metric!r} is not one of {', '.join(known)}")
    return known[metric]()


def _judged(judge: AnswerMetric, answers: Sequence[Answer], asked: Sequence[Sample]) -> list[float]:
    return judge.scores([one.text for one in answers], [sample.answers for sample in asked])


def tasks_of(asked: Sequence[Sample]) -> Iterator[tuple[str, list[int]]]:
    """Group the questions: by group, all together, and by kind where a group has several."""
    groups = sorted({sample.group for sample in asked})
    for group in groups:
        yield group, [index for index, sample in enumerate(asked) if sample.group == group]
    if len(groups) > 1:
        yield "all", list(range(len(asked)))
    kinds = sorted({(sample.group, sample.kind) for sample in asked})
    several = {group for group, count in Counter(group for group, _ in kinds).items() if count > 1}
    for group, kind in kinds:
        if group in several:
            yield (
                f"{group}/{kind}",
                [
                    index
                    for index, sample in enumerate(asked)
                    if (sample.group, sample.kind) == (group, kind)
                ],
            )


class _Part:
    """Selects the same indices of several lists."""

    def __init__(self, index: Sequence[int]) -> None:
        self.index = index

    def __call__(self, values: Sequence[Any]) -> list[Any]:
        return [values[place] for place in self.index]


def _slower(times: Sequence[dict[str, Any]]) -> list[str]:
    return [
        f"{one['method']} @ {one['keep']}, batch of {one['batch']}"
        for one in times
        if one["is_slower"]
    ]
