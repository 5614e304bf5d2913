"""Running a model over questions, dense or pruned, and what came of each."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from ..documents import Sample
from ..documents.cells import token_shares
from ..methods import Method, Tokens
from ..pruning import prune
from ..report import Call
from ..selectors import Keep
from ..shapes import Float, Int64
from ..teacher import Teacher
from .cost import flop_counter


@dataclass
class Answered:
    """Results per question, in the order of the samples."""

    answers: list[str] = field(default_factory=list)
    vision_tokens: list[int] = field(default_factory=list)  # before
    kept_tokens: list[int] = field(default_factory=list)  # after
    text_tokens: list[int] = field(default_factory=list)
    evidence: list[float] = field(default_factory=list)  # share of the evidence that was kept; NaN without boxes


class OracleSample(NamedTuple):
    """What `Method.begin` tells oracles."""

    sample: Sample

    def evidence_share(self, grid: Int64[Tensor, "n 3"]) -> Float[Tensor, "n"]:
        return token_shares(self.sample, self.sample.evidence_boxes, grid)

    def key_share(self, grid: Int64[Tensor, "n 3"]) -> Float[Tensor, "n"]:
        return token_shares(self.sample, self.sample.key_boxes, grid)


def answer(
    teacher: Teacher,
    batches: Sequence[Sequence[Sample]],
    method: Method | None,
    keep: Keep,
    advance: Callable[[int], None] = lambda done: None,
) -> Answered:
    """Greedy answers to all questions; `method` None runs the dense model."""
    result = Answered()
    for batch in batches:
        prompts = teacher.prompter(batch)
        layout = teacher.backbone.layout(prompts.inputs)
        length = prompts.inputs["input_ids"].shape[1]
        arguments = {"max_new_tokens": 8, "do_sample": False}
        counts = layout.counts()
        if method is None:
            made = teacher.model.generate(**prompts.inputs, **arguments)
            result.kept_tokens += counts
            result.evidence += [float(bool(sample.evidence_boxes)) or math.nan for sample in batch]
        else:
            tell(method, batch)
            with prune(teacher.model, method, keep) as report:
                made = teacher.model.generate(**prompts.inputs, **arguments)
            call = report.calls[-1]
            result.kept_tokens += call.after
            result.evidence += [evidence_kept(*one) for one in zip(batch, call.grids, call.kept, strict=True)]
        result.answers += teacher.prompter.decode(made[:, length:])
        result.vision_tokens += counts
        result.text_tokens += layout.text.sum(-1).tolist()
        advance(len(batch))
    return result


def evidence_kept(sample: Sample, grid: Tensor, kept: Tensor) -> float:
    """Share of the evidence that lies on kept tokens, of the best covered group where there are several; NaN without boxes."""
    shares = [token_shares(sample, boxes, grid) for boxes in (sample.evidence_boxes, *sample.alt_evidence) if boxes]
    return max((float(share[kept].sum() / share.sum()) for share in shares if share.sum() > 0), default=float("nan"))


def tell(method: Method, batch: Sequence[Sample]) -> None:
    """Tell oracles what the next batch holds."""
    method.begin([OracleSample(sample) for sample in batch])


@torch.no_grad()
def pruned_prefill(teacher: Teacher, sample: Sample, method: Method, keep: Keep) -> Call:
    """What a method keeps of one sample."""
    inputs = teacher.prompter([sample]).inputs
    tell(method, [sample])
    with prune(teacher.model, method, keep) as report:
        teacher.model(**inputs, logits_to_keep=1)
    return report.calls[-1]


class _Free(Method):
    """Keeps as many tokens at the same places of the LLM as another method, any ones, at no cost."""

    def __init__(self, method: Method) -> None:
        self.layer, self.stages = method.layer, method.stages  # type: ignore[method-assign]

    def select(self, tokens: Tokens, count: int) -> Int64[Tensor, "count"]:
        return torch.arange(count)


def method_macs(teacher: Teacher, sample: Sample, method: Method, keep: Keep) -> int:
    """The method's own MACs on one sample: what a pruned prefill costs more than one that keeps as many tokens without asking.

    Counted as they run (torch's FlopCounterMode counts two FLOPs per MAC).
    """
    with flop_counter() as counter:
        call = pruned_prefill(teacher, sample, method, keep)
    with flop_counter() as free:
        pruned_prefill(teacher, sample, _Free(method), call.after[0])
    return (counter.get_total_flops() - free.get_total_flops()) // 2


def prefill_ms(teacher: Teacher, batch: Sequence[Sample], method: Method, keep: Keep, repeats: int = 7) -> tuple[float, float]:
    """(pruned, dense) milliseconds per sample of one whole prefill: tower, projector, method, LLM; medians of alternating runs."""
    prompts = teacher.prompter(batch)
    times: tuple[list[float], list[float]] = ([], [])
    with torch.no_grad():
        for _ in range(repeats + 2):
            tell(method, batch)
            start = time.perf_counter()
            with prune(teacher.model, method, keep):
                teacher.model(**prompts.inputs, logits_to_keep=1)
            middle = time.perf_counter()
            teacher.model(**prompts.inputs, logits_to_keep=1)
            times[0].append(middle - start)
            times[1].append(time.perf_counter() - middle)
    pruned, dense = (1000 * statistics.median(each[2:]) / len(batch) for each in times)  # two warm-up rounds
    return pruned, dense
