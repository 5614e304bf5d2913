"""Evaluate eviction policies on dialogues, alone and with vision pruning."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas

from ..cli.progress import track
from ..distillation.teacher import Teacher
from ..documents import Sample
from ..documents.sources.source import DataSource, as_data_flags
from ..documents.world.generated import fingerprint
from ..eviction import Evictor, evict
from ..eviction.budget import budget_for
from ..limits import check_above, check_named, check_share
from ..methods import Learned, Method
from ..pruning.prune import prune
from ..storage.atomic import check_results, draft_file
from .as_function import as_function
from .bootstrap import paired_difference
from .cost.latency import method_macs
from .dialogue_replay import DialogueResult, replay
from .metrics import AnswerMetric
from .questions import (
    Task,
    check_answers,
    check_questions,
    labelled,
    metric_named,
    usable_questions,
)
from .report.tables import deviation_notes, markdown, percent, show
from .run_log import write_json
from .trained_scorer import named_scorer

FULL = "full cache"


@dataclass
class EvictionRow:
    """One policy at one budget on one task; accuracies and agreement are in [0, 1]."""

    policy: str
    text_budget: int | None  # entries; None for the full cache
    share: float  # the budget as a share of the mean text length
    keep: float  # of the vision tokens
    # A group of questions, all of them, or all of one difficulty (`all/4 facts, 2 turns`). For
    # people: no two tasks have the same, and nothing takes it apart.
    task: str
    n: int
    accuracy: float
    minus_full: str  # points against the full cache at the same keep, with the paired 95 % interval
    agreement: float  # with the full cache at the same keep
    peak_bytes: float  # of keys and values, mean over dialogues
    bytes_saved: float  # share of the full cache's, all vision tokens there
    # Of LLM and scorer, mean over dialogues, without what policies look at besides; one MAC is two
    # FLOPs.
    macs: float | None
    # Share of what the LLM needs with all entries and all vision tokens; None where cost does not
    # cover it.
    llm_flops_saved: float | None
    tokens_per_s: float  # read and written after the first turn
    group: str | None  # the task's; None: of all groups
    kind: str | None  # the task's; None: of all kinds


class Setting(NamedTuple):
    """The policy, budget and keep under which dialogues are replayed."""

    policy_name: str
    policy: Evictor | None
    text_budget: int | None  # entries; None for the full cache
    share: float  # the budget as a share of the mean text length
    method: Method | None
    keep: float  # of the vision tokens


@dataclass
class EvictionEvaluation:
    """Evaluate eviction policies on dialogues, which are replayed turn by turn.

    Args:
        policies: Policies by the name under which they are reported.
        teacher: Directory or repository of the VLM.
        scorer: Directory of a trained scorer, with which everything is run once more at `keep`;
            null leaves that out.
        keep: Share of vision tokens that the scorer keeps.
        shares: Text budgets as shares of the mean text length; a half and a quarter if left out.
            Above 1 nothing is evicted.
        data: Where dialogues come from, as in training: questions with a `history`; generated ones
            if no path is given.
        split: Split to evaluate on.
        pages: Generated dialogues; three questions end each.
        metric: How answers are scored, as for the other evaluation.
        longest_answer: Tokens that are generated at most.
        output: Where eviction.json and eviction.md go.
    """

    policies: dict[str, Evictor]
    teacher: str = "checkpoints/tiny-teacher"
    scorer: str | None = "checkpoints/tiny/scorer"
    keep: float = 0.25
    shares: list[float] | None = None
    data: DataSource = field(default_factory=DataSource)
    split: str = "test"
    pages: int = 64
    metric: str = "exact_match"
    longest_answer: int = 12
    output: str = "results/eviction"

    def __post_init__(self) -> None:
        check_questions(self)
        check_named({"shares": self.shares})
        if not self.policies:
            raise ValueError("policies: nothing to evaluate; name at least one policy")
        for share in self.shares or []:
            check_above(0, {"shares": share})
        check_share({"keep": self.keep})

    def run(self) -> list[EvictionRow]:
        """Replay all dialogues and report; returns one row per policy, budget, keep and task."""
        shares = self.shares or [0.5, 0.25]
        metric = metric_named(self.metric)
        out = check_results(Path(self.output), ("eviction.json", "eviction.md"), "eviction.json")
        with as_data_flags():
            self.data.check_root()
        method = None if self.scorer is None else Learned(named_scorer(self.scorer))
        teacher = Teacher.load(self.teacher)
        with as_data_flags():
            dialogues, skipped = self.data.dialogues(self.split, self.pages)
        check_answers(dialogues, metric)
        questions = usable_questions(dialogues, skipped, out)
        mean = float(np.mean([_text_tokens(teacher, question) for question in questions]))
        out.mkdir(parents=True, exist_ok=True)
        budgets = {share: max(1, round(share * mean)) for share in shares}
        self._check(teacher, budgets)
        macs = 0 if method is None else method_macs(teacher, questions[0], method, self.keep)
        rows: list[EvictionRow] = []
        dense: list[DialogueResult] = []
        for chosen, keep in ((None, 1.0), *([] if method is None else [(method, self.keep)])):
            extra = 0 if chosen is None else macs
            full: list[DialogueResult] = []
            for setting in self._settings(budgets, chosen, keep):
                results = _run(teacher, questions, self.longest_answer, setting)
                full = full or results
                dense = dense or results
                compared = Compared(results, full, dense, extra, metric)
                rows += _rows(setting, questions, compared)
                write_json(out / "eviction.json", [asdict(row) for row in rows])
        about = (
            f"dialogues {fingerprint(dialogues)}, {len(questions)} questions, mean text length "
            f"{mean:.0f} tokens, seed {self.data.seed}"
        )
        _write(rows, out / "eviction.md", [*deviation_notes(self.policies), about])
        print(f"results: {out}/eviction.json, eviction.md")
        return rows

    def _settings(
        self, budgets: dict[float, int], method: Method | None, keep: float
    ) -> Iterator[Setting]:
        """The full cache first, then every policy at every budget."""
        yield Setting(FULL, None, None, 1.0, method, keep)
        for share, budget in budgets.items():
            for name, policy in self.policies.items():
                yield Setting(name, policy, budget, share, method, keep)

    def _check(self, teacher: Teacher, budgets: dict[float, int]) -> None:
        for policy in self.policies.values():
            policy.check(teacher.model)
            for budget in budgets.values():
                budget_for(policy, budget, None)


evaluate_eviction = as_function("evaluate_eviction", EvictionEvaluation)


def _text_tokens(teacher: Teacher, sample: Sample) -> int:
    """Count the text tokens of a prompt."""
    return int(teacher.backbone.layout(teacher.inputs([sample])).text.sum())


def _run(
    teacher: Teacher, questions: Sequence[Sample], longest: int, setting: Setting
) -> list[DialogueResult]:
    results = []
    title = f"{setting.policy_name} @ {setting.text_budget or 'all'}"
    title += f", {setting.keep:g} of the vision" if setting.method is not None else ""
    template = teacher.prompter.masked_ids
    with track(title, len(questions)) as advance:
        for question in questions:
            with ExitStack() as stack:
                if setting.method is not None:
                    pruned = prune(
                        teacher.model, setting.method, setting.keep, template_ids=template
                    )
                    stack.enter_context(pruned)
                report = None
                if setting.policy is not None and setting.text_budget is not None:
                    evicted = evict(teacher.model, setting.policy, setting.text_budget)
                    report = stack.enter_context(evicted)
                results.append(replay(teacher, question, longest, report))
            advance(1)
    return results


class Compared(NamedTuple):
    """Results under a setting beside those with the full cache, and with all vision tokens too."""

    results: Sequence[DialogueResult]
    full: Sequence[DialogueResult]
    dense: Sequence[DialogueResult]
    method_macs: int
    metric: AnswerMetric


def _rows(setting: Setting, questions: Sequence[Sample], done: Compared) -> list[EvictionRow]:
    answers = [question.answers for question in questions]
    scores = done.metric.scores([result.text for result in done.results], answers)
    full_scores = done.metric.scores([result.text for result in done.full], answers)
    rows = []
    for task in _tasks(questions):
        index = task.index
        own, full, dense = (
            [results[place] for place in index] for results in (done.results, done.full, done.dense)
        )
        right, full_right = ([each[place] for place in index] for each in (scores, full_scores))
        pages = [questions[place].page for place in index]
        peak = float(np.mean([result.peak_bytes for result in own]))
        dense_peak = float(np.mean([result.peak_bytes for result in dense]))
        macs, dense_macs = _mean_macs(own, done.method_macs), _mean_macs(dense, 0)
        known = macs is not None and dense_macs is not None
        seconds = sum(result.seconds for result in own)
        same = [a.text == b.text for a, b in zip(own, full, strict=True)]
        rows.append(
            EvictionRow(
                policy=setting.policy_name,
                text_budget=setting.text_budget,
                share=setting.share,
                keep=setting.keep,
                task=task.label,
                group=task.group,
                kind=task.kind,
                n=len(index),
                accuracy=float(np.mean(right)),
                minus_full=str(paired_difference(right, full_right, pages)),
                agreement=float(np.mean(same)),
                peak_bytes=peak,
                bytes_saved=1 - peak / dense_peak,
                macs=macs,
                llm_flops_saved=1 - macs / dense_macs if known else None,  # type: ignore[operator]
                tokens_per_s=sum(result.tokens for result in own) / max(1e-9, seconds),
            )
        )
    return rows


def _tasks(questions: Sequence[Sample]) -> list[Task]:
    """Index the questions of each group, of all, and of each difficulty."""
    groups = dict.fromkeys(question.group for question in questions)
    kinds = dict.fromkeys(question.kind for question in questions)
    parts = [*((group, None) for group in groups), (None, None), *((None, kind) for kind in kinds)]
    return labelled(questions, parts)


def _mean_macs(results: Sequence[DialogueResult], method_macs: int) -> float | None:
    counted = [result.macs for result in results if result.macs is not None]
    return float(np.mean(counted)) + method_macs if len(counted) == len(results) else None


def _write(rows: Sequence[EvictionRow], path: Path, notes: Sequence[str]) -> None:
    frame = pandas.DataFrame([asdict(row) for row in rows if row.kind is None])
    budgets = frame["text_budget"]
    table = pandas.DataFrame(
        {
            "policy": frame["policy"],
            "budget": budgets.map(lambda n: "-" if pandas.isna(n) else f"{n:.0f}"),
            "of the text": frame["share"].map("{:g}".format),
            "vision": frame["keep"].map("{:g}".format),
            "task": frame["task"],
            "n": frame["n"].map(str),
            "accuracy": frame["accuracy"].map(percent),
            "- full (95 %)": frame["minus_full"],
            "agree": frame["agreement"].map(percent),
            "peak KiB": (frame["peak_bytes"] / 1024).map("{:.0f}".format),
            "KV saved": frame["bytes_saved"].map(percent),
            "LLM FLOPs saved": frame["llm_flops_saved"].map(percent),
            "tokens / s": frame["tokens_per_s"].map("{:.0f}".format),
        }
    )
    show(notes[-1], table)
    lines = "".join(f"- {note}\n" for note in notes)
    with draft_file(path) as draft:
        draft.write_text(f"{markdown(table)}\n{lines}", encoding="utf-8")
