"""Measured cost of a method: MACs and milliseconds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...distillation.teacher import Teacher
from ...documents import Sample
from ...methods import Method, Tokens
from ...pruning.prune import prune
from ...selectors import Keep
from ...typing import Int64
from ..answers import pruned_prefill, tell
from .cost import flop_counter

_WARM_UP = 1


class _Free(Method):
    """Keeps as many tokens at the same places as another method, at no cost."""

    def __init__(self, method: Method) -> None:
        self.layer, self.stages = method.layer, method.stages  # type: ignore[method-assign]

    def select(self, tokens: Tokens, count: int) -> Int64[Tensor, "count"]:
        return torch.arange(count, device=tokens.vision.device)


def method_macs(teacher: Teacher, sample: Sample, method: Method, keep: Keep) -> int:
    """Count the method's own MACs: a pruned prefill less one that chooses for free.

    Counted as they run (torch's FlopCounterMode counts two FLOPs per MAC).
    """
    with flop_counter() as counter:
        call = pruned_prefill(teacher, sample, method, keep)
    with flop_counter() as free:
        pruned_prefill(
            teacher, sample, _Free(method), call.after[0] if isinstance(keep, str) else keep
        )
    return (counter.get_total_flops() - free.get_total_flops()) // 2


@dataclass(frozen=True)
class Latency:
    """Milliseconds per sample, medians of alternating runs in one process."""

    batch: int
    prefill: float  # tower, projector, method and LLM
    dense_prefill: float
    choosing: float  # what the method adds to the same prefill with any tokens
    decode: float  # per token after the first
    dense_decode: float

    @property
    def is_slower(self) -> bool:
        """Return whether pruning costs more time than it saves, over prefill and 8 tokens."""
        return self.prefill + 8 * self.decode > self.dense_prefill + 8 * self.dense_decode


def latency(
    teacher: Teacher,
    batch: Sequence[Sample],
    method: Method,
    keep: Keep,
    repeats: int = 3,
    steps: int = 8,
) -> Latency:
    """Time one batch, dense and pruned in turn, after a warm-up."""
    inputs = teacher.inputs(batch)
    with torch.no_grad():
        tell(method, batch, teacher)
        with prune(teacher.model, method, keep, template_ids=teacher.prompter.masked_ids) as report:
            teacher.model(**inputs, logits_to_keep=1)
    call = report.calls[-1]
    # The free one takes a count where the method has a budget of its own.
    same = max(call.after) if isinstance(keep, str) else keep

    def pruned(what: Method, share: Keep, run: Callable[[], Any]) -> float:
        tell(what, batch, teacher)
        with prune(teacher.model, what, share, template_ids=teacher.prompter.masked_ids):
            return _seconds(run)

    def prefill() -> Any:
        return teacher.model(**inputs, logits_to_keep=1)

    def generate() -> Any:
        return teacher.model.generate(
            **inputs, max_new_tokens=steps + 1, min_new_tokens=steps + 1, do_sample=False
        )

    taken: dict[str, list[float]] = {
        name: [] for name in ("pruned", "dense", "free", "generated", "dense_generated")
    }
    with torch.no_grad():
        for _ in range(repeats + _WARM_UP):
            taken["pruned"].append(pruned(method, keep, prefill))
            taken["dense"].append(_seconds(prefill))
            taken["free"].append(pruned(_Free(method), same, prefill))
            taken["generated"].append(pruned(method, keep, generate))
            taken["dense_generated"].append(_seconds(generate))
    ms = {
        name: 1000 * statistics.median(each[_WARM_UP:]) / len(batch) for name, each in taken.items()
    }
    return Latency(
        batch=len(batch),
        prefill=ms["pruned"],
        dense_prefill=ms["dense"],
        choosing=max(0.0, ms["pruned"] - ms["free"]),
        decode=max(0.0, ms["generated"] - ms["pruned"]) / steps,
        dense_decode=max(0.0, ms["dense_generated"] - ms["dense"]) / steps,
    )


def _seconds(run: Callable[[], Any]) -> float:
    _finish()
    start = time.perf_counter()
    run()
    _finish()
    return time.perf_counter() - start


def _finish() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
