"""One line of the table: a method at a keep on a task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..answers import Answer
from ..bootstrap import paired_difference
from ..cost.cost import PrefillCost, kv_bytes, kv_entries, prefill_cost
from ..cost.latency import Latency


@dataclass
class Row:
    """Accuracies, agreement, recall and keeps are shares in [0, 1].

    MACs, tokens and bytes are means per sample.

    Costs are None where the model's tower or decoder is not covered by `cost`.
    """

    method: str
    keep_requested: float | int | str
    keep_mean: float  # of the tokens left in the last layer
    keep_p95: float
    task: str
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

    @classmethod
    def of(
        cls,
        config: Any,
        run: tuple[str, float | int | str],
        task: str,
        answers: tuple[Sequence[Answer], Sequence[Answer]],
        scores: tuple[Sequence[float], Sequence[float]],
        pages: Sequence[int],
        method_macs: int,
        times: Latency,
    ) -> Row:
        """From pruned and dense answers to the same questions, their scores, and what one prefill
        took.
        """
        pruned, dense = answers
        keeps = [one.left for one in pruned]
        recalls = [one.evidence for one in pruned if one.evidence is not None]
        costs = [_or_none(lambda one=one: _cost(config, one, method_macs)) for one in pruned]  # type: ignore[misc]
        full = [_or_none(lambda one=one: _cost(config, one, 0)) for one in dense]  # type: ignore[misc]
        total, total_dense = _mean(costs, "total"), _mean(full, "total")
        llm, llm_dense = _mean(costs, "llm"), _mean(full, "llm")
        entries = [
            _or_none(lambda one=one: kv_entries(config, one.per_layer, one.text_tokens))
            for one in pruned
        ]  # type: ignore[misc]
        held = None if entries[0] is None else float(np.mean(entries))
        return cls(
            method=run[0],
            keep_requested=run[1],
            keep_mean=float(np.mean(keeps)),
            keep_p95=float(np.quantile(keeps, 0.95)),
            task=task,
            n=len(pruned),
            accuracy=float(np.mean(scores[0])),
            dense_accuracy=float(np.mean(scores[1])),
            agreement=float(
                np.mean([one.text == other.text for one, other in zip(pruned, dense, strict=True)])
            ),
            evidence_recall=float(np.mean(recalls)) if recalls else None,
            evidence_complete=float(np.mean([recall >= 0.9 for recall in recalls]))
            if recalls
            else None,
            macs_prefill=total,
            macs_prefill_dense=total_dense,
            flops_saved=_saved(total, total_dense),
            prefill_ms=times.prefill,
            dense_prefill_ms=times.dense_prefill,
            macs_tower=_mean(costs, "tower"),
            macs_projector=_mean(costs, "projector"),
            macs_llm=llm,
            macs_llm_dense=llm_dense,
            macs_method=float(method_macs),
            llm_flops_saved=_saved(llm, llm_dense),
            layer_average=float(
                np.mean([np.mean(one.per_layer) / one.vision_tokens for one in pruned])
            ),
            kv_entries=held,
            kv_bytes=None if held is None else float(kv_bytes(config, 1) * held),
            minus_dense=str(paired_difference(scores[0], scores[1], pages)),
        )


def _cost(config: Any, one: Answer, method: int) -> PrefillCost:
    return prefill_cost(config, one.per_layer, one.text_tokens, one.pictures, method)


def _or_none(make: Callable[[], Any]) -> Any:
    """None where a model's cost is not covered: its accuracy is of interest all the same."""
    try:
        return make()
    except ValueError:
        return None


def _mean(costs: Sequence[PrefillCost | None], part: str) -> float | None:
    return None if None in costs else float(np.mean([getattr(cost, part) for cost in costs]))


def _saved(now: float | None, before: float | None) -> float | None:
    return None if now is None or before is None else 1 - now / before
