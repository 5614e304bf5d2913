"""Evaluate eviction policies on dialogues, alone and with vision pruning."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..checkpoint.scorer import load_scorer
from ..cli.progress import track
from ..distillation.teacher import Teacher
from ..documents import Sample, samples
from ..documents.sources.source import DataSource
from ..documents.world.generated import fingerprint
from ..eviction import Evictor, evict
from ..eviction.budget import budget_for
from ..methods import Learned, Method
from ..pruning.prune import prune
from ..selectors import check_keep
from ..storage.atomic import check_results, draft_file
from .bootstrap import paired_difference
from .cost.latency import method_macs
from .dialogue_replay import DialogueResult, replay
from .evaluate import judge_named
from .report.tables import markdown, show
from .run_log import write_json

FULL = "full cache"


@dataclass
class EvictionRow:
    """One policy at one budget on one task; accuracies and agreement are in [0, 1]."""

    policy: str
    text_budget: int | None  # entries; None for the full cache
    share: float  # the budget as a share of the mean text length
    keep: float  # of the vision tokens
    task: (
        str  # a group of questions, all of them, or all of one difficulty (`all/4 facts, 2 turns`)
    )
    n: int
    accuracy: float
    minus_full: str  # points against the full cache at the same keep, with the paired 95 % interval
    agreement: float  # with the full cache at the same keep
    peak_bytes: float  # of keys and values, mean over dialogues
    bytes_saved: float  # share of the full cache's, all vision tokens there
    macs: (
        float | None
        # Of LLM and scorer, mean over dialogues, without what policies look at besides; one MAC is two
        # FLOPs.
    )
    llm_flops_saved: (
        float | None
        # Share of what the LLM needs with all entries and all vision tokens; None where cost does not
        # cover it.
    )
    tokens_per_s: float  # read and written after the first turn


def evaluate_eviction(
    policies: dict[str, Evictor],
    teacher: str = "checkpoints/tiny-teacher",
    scorer: str | None = "checkpoints/tiny/scorer",
    keep: float = 0.25,
    shares: list[float] | None = None,
    data: DataSource = DataSource(),  # noqa: B008 - nobody changes it
    split: str = "test",
    pages: int = 64,
    metric: str = "exact_match",
    longest_answer: int = 12,
    output: str = "results/eviction",
) -> list[EvictionRow]:
    """Evaluate eviction policies on dialogues, which are replayed turn by turn.

    Args:
        policies: Policies by the name under which they are reported.
        teacher: Directory or repository of the VLM.
        scorer: Directory of a trained scorer, with which everything is run once more at `keep`;
            null leaves that out.
        keep: Share of vision tokens that the scorer keeps.
        shares: Text budgets as shares of the mean text length; a half and a quarter if left out.
            Above 1 nothing leaves.
        data: Where dialogues come from, as in training: questions with a `history`; generated ones
            if no path is given.
        split: Split to evaluate on.
        pages: Generated dialogues; three questions end each.
        metric: How answers are judged, as for the other evaluation.
        longest_answer: Tokens that are generated at most.
        output: Where eviction.json and eviction.md go.
    """
    check_keep(keep)
    wanted = [0.5, 0.25] if shares is None else shares
    if pages < 1 or not wanted or not policies or min(wanted) <= 0:
        named = f"pages: {pages}, shares: {wanted}, policies: {', '.join(policies)}"
        raise ValueError(f"{named}; give at least one of each, and shares above 0")
    judge = judge_named(metric)
    out = check_results(Path(output), ("eviction.json", "eviction.md"), "eviction.json")
    side = Teacher.load(teacher)
    method = None if scorer is None else Learned(load_scorer(scorer))
    dialogues = data.dialogues(split, pages)
    judge.check(
        [tuple(question["answers"]) for page in dialogues["questions"] for question in page]
    )
    asked = list(samples(dialogues))
    mean = float(np.mean([_words(side, sample) for sample in asked]))
    out.mkdir(parents=True, exist_ok=True)
    budgets = {share: max(1, round(share * mean)) for share in wanted}
    for policy in policies.values():
        policy.check(side.model)
        for budget in budgets.values():
            budget_for(policy, budget, None)
    choosing = 0 if method is None else method_macs(side, asked[0], method, keep)
    rows: list[EvictionRow] = []
    dense: list[DialogueResult] = []
    for chosen, kept in ((None, 1.0), *([] if method is None else [(method, keep)])):
        full = _run(side, asked, longest_answer, FULL, chosen, kept, None, None)
        dense = dense or full
        extra = 0 if chosen is None else choosing
        rows += _rows((FULL, None, 1.0, kept), asked, full, full, dense, extra, judge.scores)
        for share, budget in budgets.items():
            for name, policy in policies.items():
                endings = _run(side, asked, longest_answer, name, chosen, kept, policy, budget)
                rows += _rows(
                    (name, budget, share, kept), asked, endings, full, dense, extra, judge.scores
                )
                write_json(out / "eviction.json", [asdict(row) for row in rows])
    about = f"dialogues {fingerprint(dialogues)}, {len(asked)} questions, mean text length {mean:.0f} tokens, seed {data.seed}"
    _write(rows, out / "eviction.md", about)
    print(f"results: {out}/eviction.json, eviction.md")
    return rows


def _words(teacher: Teacher, sample: Sample) -> int:
    """Count the text tokens of a prompt."""
    return int(teacher.backbone.layout(teacher.inputs([sample])).text.sum())


def _run(
    teacher: Teacher,
    asked: Sequence[Sample],
    longest: int,
    name: str,
    method: Method | None,
    keep: float,
    policy: Evictor | None,
    budget: int | None,
) -> list[DialogueResult]:
    endings = []
    title = f"{name} @ {budget or 'all'}" + (
        f", {keep:g} of the vision" if method is not None else ""
    )
    with track(title, len(asked)) as advance:
        for sample in asked:
            with ExitStack() as stack:
                if method is not None:
                    template = teacher.prompter.masked_ids
                    stack.enter_context(prune(teacher.model, method, keep, template_ids=template))
                report = None
                if policy is not None and budget is not None:
                    report = stack.enter_context(evict(teacher.model, policy, budget))
                endings.append(replay(teacher, sample, longest, report))
            advance(1)
    return endings


def _rows(
    run: tuple[str, int | None, float, float],
    asked: Sequence[Sample],
    endings: Sequence[DialogueResult],
    full: Sequence[DialogueResult],
    dense: Sequence[DialogueResult],
    choosing: int,
    score: Any,
) -> list[EvictionRow]:
    right, right_full = (
        score([one.text for one in each], [sample.answers for sample in asked])
        for each in (endings, full)
    )
    pages = [sample.page for sample in asked]
    rows = []
    for task, index in _tasks(asked):
        mine, before = [endings[place] for place in index], [dense[place] for place in index]
        size, size_before = (
            float(np.mean([one.peak_bytes for one in part])) for part in (mine, before)
        )
        macs, macs_before = _mean_macs(mine, choosing), _mean_macs(before, 0)
        rows.append(
            EvictionRow(
                policy=run[0],
                text_budget=run[1],
                share=run[2],
                keep=run[3],
                task=task,
                n=len(index),
                accuracy=float(np.mean([right[place] for place in index])),
                minus_full=str(
                    paired_difference(
                        [right[p] for p in index],
                        [right_full[p] for p in index],
                        [pages[p] for p in index],
                    )
                ),
                agreement=float(
                    np.mean([endings[place].text == full[place].text for place in index])
                ),
                peak_bytes=size,
                bytes_saved=1 - size / size_before,
                macs=macs,
                llm_flops_saved=None
                if macs is None or macs_before is None
                else 1 - macs / macs_before,
                tokens_per_s=sum(one.tokens for one in mine)
                / max(1e-9, sum(one.seconds for one in mine)),
            )
        )
    return rows


def _tasks(asked: Sequence[Sample]) -> list[tuple[str, list[int]]]:
    """Index the questions of each group, of all, and of each difficulty."""
    names = [(sample.group, "all", f"all/{sample.kind}") for sample in asked]
    tasks = dict.fromkeys(name for column in zip(*names, strict=True) for name in column)
    return [(task, [place for place, mine in enumerate(names) if task in mine]) for task in tasks]


def _mean_macs(endings: Sequence[DialogueResult], choosing: int) -> float | None:
    counted = [one.macs for one in endings if one.macs is not None]
    return float(np.mean(counted)) + choosing if len(counted) == len(endings) else None


def _write(rows: Sequence[EvictionRow], path: Path, about: str) -> None:
    head = (
        "policy",
        "budget",
        "of the text",
        "vision",
        "task",
        "n",
        "accuracy",
        "- full (95 %)",
        "agree",
        "peak KiB",
        "KV saved",
        "LLM FLOPs saved",
        "tokens / s",
    )
    lines = [_cells(row) for row in rows if "/" not in row.task]
    show(about, head, lines)
    with draft_file(path) as draft:
        draft.write_text(f"{markdown(head, lines)}\n{about}\n", encoding="utf-8")


def _cells(row: EvictionRow) -> tuple[str, ...]:
    return (
        row.policy,
        "-" if row.text_budget is None else str(row.text_budget),
        f"{row.share:g}",
        f"{row.keep:g}",
        row.task,
        str(row.n),
        f"{100 * row.accuracy:.1f}",
        row.minus_full,
        f"{100 * row.agreement:.1f}",
        f"{row.peak_bytes / 1024:.0f}",
        f"{100 * row.bytes_saved:.1f}",
        "-" if row.llm_flops_saved is None else f"{100 * row.llm_flops_saved:.1f}",
        f"{row.tokens_per_s:.0f}",
    )
