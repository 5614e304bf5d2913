"""Method x keep x task on held-out pages: `results.json`, a table and a picture."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ..documents import Sample, samples
from ..documents.generated import fingerprint, generated_pages
from ..documents.source import Source
from ..methods import Learned, Method
from ..progress import track
from ..selectors import Keep, check_keep
from ..teacher import Teacher
from .answers import Answered, answer, method_macs, prefill_ms
from .bootstrap import Interval, paired_difference
from .cost import PrefillCost, prefill_cost
from .examples import examples_pictures
from .report import pareto_picture, results_table


@dataclass
class Row:
    """One method at one keep on one task. Accuracies, agreement, recall and keeps are shares in [0, 1]; MACs are per sample."""

    method: str
    keep_requested: float | int | str
    keep_mean: float
    keep_p95: float
    task: str
    n: int
    accuracy: float
    dense_accuracy: float
    agreement: float
    evidence_recall: float | None  # mean share of the evidence that is kept
    evidence_complete: float | None  # share of questions of whose evidence at least 90 % is kept
    macs_prefill: float
    macs_prefill_dense: float
    flops_saved: float
    prefill_ms: float
    dense_prefill_ms: float
    macs_tower: float
    macs_llm: float
    macs_llm_dense: float
    macs_method: float
    llm_flops_saved: float
    minus_dense: str  # points, with the paired 95 % interval


def evaluate(
    teacher: str = "checkpoints/tiny-teacher",
    scorer: str | None = "checkpoints/tiny/scorer",
    methods: dict[str, Method] | None = None,
    keeps: list[int | float | str] | None = None,
    path: str | None = None,
    root: str = "data",
    split: str = "test",
    pages: int = 200,
    questions: tuple[int, int] = (3, 2),
    seed: int = 0,
    batch_size: int = 40,
    examples_keep: float = 0.125,
    show_pages: bool = True,
    output: str = "results/tiny",
) -> list[Row]:
    """Evaluate methods against the dense model.

    Args:
        teacher: Directory or repository of the VLM.
        scorer: Directory of a trained scorer, evaluated as `learned`; null leaves it out.
        methods: Further methods by the name under which they are reported.
        keeps: Shares, counts, "auto" or "gap"; the last two for the learned scorer alone.
        path: Folder, file or dataset of pages as data/README.md describes; the generated world if left out.
        root: Where generated pages are written.
        split: Split to evaluate on.
        pages: Generated pages.
        questions: Look-ups and whole-page questions per generated page.
        seed: Seed of the generated pages.
        batch_size: Questions per batch.
        examples_keep: Share kept in the pictures of examples.
        show_pages: Whether the pictures show the pages; false draws on blank paper, for pages that must not be published.
        output: Where results.json, table.md, pareto.png, examples.png and heat_maps.png go.
    """
    wanted: list[Keep] = [check_keep(keep) for keep in (keeps or [0.5, 0.25, 0.125, 0.0625])]  # type: ignore[arg-type]
    chosen = dict(methods or {})
    if scorer is not None:
        chosen = {"learned": Learned(scorer), **chosen}
    if not chosen:
        raise ValueError("methods: nothing to evaluate; name a scorer or at least one method")
    side = Teacher.load(teacher)
    dataset = generated_pages(Path(root), split, pages, seed, *questions) if path is None else Source(path).pages(split)[0]
    asked = list(samples(dataset))
    batches = [asked[start : start + batch_size] for start in range(0, len(asked), batch_size)]
    runs = [(name, method, keep) for name, method in chosen.items() for keep in wanted if _applies(method, keep)]
    out = Path(output)
    out.mkdir(parents=True, exist_ok=True)
    with track("dense", len(asked)) as advance:
        dense = answer(side, batches, None, 1.0, advance)
    rows: list[Row] = []
    for name, method, keep in runs:
        with track(f"{name} @ {keep}", len(asked)) as advance:
            pruned = answer(side, batches, method, keep, advance)
        macs = method_macs(side, asked[0], method, keep)
        times = prefill_ms(side, batches[0][:8], method, keep)
        for task, index in _tasks(asked):
            rows.append(_row(side, name, keep, task, [asked[i] for i in index], index, pruned, dense, macs, times))
        _write(out / "results.json", rows)
    about = {
        "teacher": teacher,
        "fingerprint": fingerprint(dataset),
        "pages": len(dataset),
        "questions": len(asked),
        "seed": seed,
    }
    results_table(rows, out / "table.md", about)
    pareto_picture(rows, out / "pareto.png")
    examples_pictures(side, asked, chosen, examples_keep, out, show_pages)
    print(f"results: {out}/results.json, table.md, pareto.png, examples.png, heat_maps.png")
    return rows


def _applies(method: Method, keep: Keep) -> bool:
    return not isinstance(keep, str) or type(method).budget is not Method.budget


def _tasks(asked: Sequence[Sample]) -> Iterator[tuple[str, list[int]]]:
    """Every group of questions, and all together."""
    groups = sorted({sample.group for sample in asked})
    for group in groups:
        yield group, [index for index, sample in enumerate(asked) if sample.group == group]
    if len(groups) > 1:
        yield "all", list(range(len(asked)))


def is_right(given: str, answers: Sequence[str]) -> bool:
    """Exact match without regard to case and surrounding space."""
    return given.strip().lower() in {one.strip().lower() for one in answers}


def _row(
    side: Teacher,
    name: str,
    keep: Keep,
    task: str,
    asked: Sequence[Sample],
    index: list[int],
    pruned: Answered,
    dense: Answered,
    macs: int,
    times: tuple[float, float],
) -> Row:
    right = [float(is_right(pruned.answers[i], sample.answers)) for i, sample in zip(index, asked, strict=True)]
    right_dense = [float(is_right(dense.answers[i], sample.answers)) for i, sample in zip(index, asked, strict=True)]
    keeps = [pruned.kept_tokens[i] / pruned.vision_tokens[i] for i in index]
    recalls = [pruned.evidence[i] for i in index if not math.isnan(pruned.evidence[i])]
    config = side.model.config
    costs = [prefill_cost(config, pruned.kept_tokens[i], pruned.text_tokens[i], 1, macs) for i in index]
    full = [prefill_cost(config, pruned.vision_tokens[i], pruned.text_tokens[i]) for i in index]
    total, total_dense = _mean(costs, "total"), _mean(full, "total")
    llm, llm_dense = _mean(costs, "llm"), _mean(full, "llm")
    against: Interval = paired_difference(right, right_dense, [sample.page for sample in asked])
    return Row(
        method=name,
        keep_requested=keep,
        keep_mean=float(np.mean(keeps)),
        keep_p95=float(np.quantile(keeps, 0.95)),
        task=task,
        n=len(index),
        accuracy=float(np.mean(right)),
        dense_accuracy=float(np.mean(right_dense)),
        agreement=float(np.mean([pruned.answers[i] == dense.answers[i] for i in index])),
        evidence_recall=float(np.mean(recalls)) if recalls else None,
        evidence_complete=float(np.mean([recall >= 0.9 for recall in recalls])) if recalls else None,
        macs_prefill=total,
        macs_prefill_dense=total_dense,
        flops_saved=1 - total / total_dense,
        prefill_ms=times[0],
        dense_prefill_ms=times[1],
        macs_tower=_mean(costs, "tower"),
        macs_llm=llm,
        macs_llm_dense=llm_dense,
        macs_method=float(macs),
        llm_flops_saved=1 - llm / llm_dense,
        minus_dense=str(against),
    )


def _mean(costs: Sequence[PrefillCost], part: str) -> float:
    return float(np.mean([getattr(cost, part) for cost in costs]))


def _write(path: Path, rows: Sequence[Row]) -> None:
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n", encoding="utf-8")
    os.replace(draft, path)
