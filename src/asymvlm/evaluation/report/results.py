"""Results of an evaluation: one row per method, keep and task."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ...selectors import Keep
from ..answers import Answer
from ..bootstrap import paired_difference
from ..cost.cost import kv_bytes, kv_entries, prefill_cost
from ..cost.latency import Latency
from ..questions import Task

_STRUCTURE = ("group", "kind")


@dataclass
class Row:
    """A method at a keep on a task, as results.json has it.

    Accuracies, agreement, recall and keeps are shares in [0, 1]; MACs, tokens and bytes are means
    per sample. Costs are None where the model's tower or decoder is not covered by `cost`.
    """

    method: str
    keep_requested: float | int | str
    keep_mean: float  # of the tokens left in the last layer
    keep_p95: float
    task: str  # for people: no two tasks have the same, and nothing takes it apart
    n: int
    accuracy: float
    dense_accuracy: float
    agreement: float
    evidence_recall: float | None  # mean share of the evidence that is kept to the end
    evidence_complete: float | None  # share of questions of whose evidence at least 90 % is kept
    macs_prefill: float | None
    macs_prefill_dense: float | None
    flops_saved: float | None
    prefill_ms: float
    dense_prefill_ms: float
    macs_tower: float | None
    macs_projector: float | None
    macs_llm: float | None
    macs_llm_dense: float | None
    macs_method: float
    llm_flops_saved: float | None
    layer_average: float  # share of the tokens that a layer sees on average
    kv_entries: float | None  # of the cache after the prefill, all layers together, text included
    kv_bytes: float | None  # the same in half precision
    minus_dense: str  # points, with the paired 95 % interval
    group: str | None  # the task's; None: of all groups
    kind: str | None  # the task's; None: of all kinds

    def columns(self) -> dict[str, Any]:
        """The row as tables have it, whose task is told by its label alone."""
        return {name: value for name, value in asdict(self).items() if name not in _STRUCTURE}


@dataclass(frozen=True)
class ScoredRun:
    """The answers of one method at one keep, with their scores."""

    name: str
    keep: Keep
    answers: Sequence[Answer]
    scores: Sequence[float]  # of the metric, one per question

    def of(self, index: Sequence[int]) -> ScoredRun:
        """Select some questions."""
        answers = [self.answers[place] for place in index]
        return ScoredRun(self.name, self.keep, answers, [self.scores[place] for place in index])


@dataclass(frozen=True)
class Costs:
    """The cost of a method at a keep: its own MACs per sample, and measured times."""

    config: Any  # of the VLM
    method_macs: int
    times: Latency


def result_row(
    task: Task, run: ScoredRun, dense: ScoredRun, pages: Sequence[int], costs: Costs
) -> Row:
    """Summarise the answers to a task's questions, beside the dense model's.

    `pages` are the page of each question; they are resampled for the interval.
    """
    keeps = [answer.left for answer in run.answers]
    seen = [np.mean(answer.per_layer) / answer.vision_tokens for answer in run.answers]
    recalls = [answer.evidence for answer in run.answers if answer.evidence is not None]
    same = [a.text == b.text for a, b in zip(run.answers, dense.answers, strict=True)]
    return Row(
        method=run.name,
        keep_requested=run.keep,
        keep_mean=float(np.mean(keeps)),
        keep_p95=float(np.quantile(keeps, 0.95)),
        task=task.label,
        group=task.group,
        kind=task.kind,
        n=len(keeps),
        accuracy=float(np.mean(run.scores)),
        dense_accuracy=float(np.mean(dense.scores)),
        agreement=float(np.mean(same)),
        evidence_recall=float(np.mean(recalls)) if recalls else None,
        evidence_complete=float(np.mean(np.array(recalls) >= 0.9)) if recalls else None,
        layer_average=float(np.mean(seen)),
        prefill_ms=costs.times.prefill,
        dense_prefill_ms=costs.times.dense_prefill,
        minus_dense=str(paired_difference(run.scores, dense.scores, pages)),
        **_counted(run.answers, dense.answers, costs),
    )


def _counted(pruned: Sequence[Answer], dense: Sequence[Answer], costs: Costs) -> dict[str, Any]:
    """Counted costs; None where a model is not covered, whose accuracy is of interest anyway."""
    counted: dict[str, Any] = dict.fromkeys(_COUNTED)
    counted["macs_method"] = float(costs.method_macs)
    with suppress(ValueError):
        entries = _mean_entries(costs.config, pruned)
        counted["kv_entries"] = entries
        counted["kv_bytes"] = float(kv_bytes(costs.config, 1) * entries)
    with suppress(ValueError):
        now = _prefill(costs.config, pruned, costs.method_macs)
        before = _prefill(costs.config, dense, 0)
        counted |= {
            "macs_prefill": now["total"],
            "macs_prefill_dense": before["total"],
            "flops_saved": 1 - now["total"] / before["total"],
            "macs_tower": now["tower"],
            "macs_projector": now["projector"],
            "macs_llm": now["llm"],
            "macs_llm_dense": before["llm"],
            "llm_flops_saved": 1 - now["llm"] / before["llm"],
        }
    return counted


def _mean_entries(config: Any, answers: Sequence[Answer]) -> float:
    held = [kv_entries(config, answer.per_layer, answer.text_tokens) for answer in answers]
    return float(np.mean(held))


def _prefill(config: Any, answers: Sequence[Answer], method: int) -> dict[str, float]:
    costs = [
        prefill_cost(config, answer.per_layer, answer.text_tokens, answer.pictures, method)
        for answer in answers
    ]
    parts = ("total", "llm", "tower", "projector")
    return {part: float(np.mean([getattr(cost, part) for cost in costs])) for part in parts}


_COUNTED = (
    "macs_prefill", "macs_prefill_dense", "flops_saved", "macs_tower", "macs_projector",
    "macs_llm", "macs_llm_dense", "macs_method", "llm_flops_saved", "kv_entries", "kv_bytes",
)  # fmt: skip
