"""Running a model over questions, dense or pruned, and what came of each."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..backbone import Encoded, Layout
from ..documents import Sample
from ..documents.cells import token_shares
from ..methods import Method
from ..pruning import choose, prune
from ..selectors import Keep
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


@dataclass
class OracleSample:
    """What `Method.begin` tells oracles."""

    evidence_share: Tensor
    key_share: Tensor


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
            made, kept = teacher.model.generate(**prompts.inputs, **arguments), [torch.arange(count) for count in counts]
        else:
            tell(method, batch, layout.grids)
            with prune(teacher.model, method, keep) as report:
                made = teacher.model.generate(**prompts.inputs, **arguments)
            kept = report.calls[-1].kept
        result.answers += teacher.prompter.decode(made[:, length:])
        result.vision_tokens += counts
        result.kept_tokens += [len(index) for index in kept]
        result.text_tokens += layout.text.sum(-1).tolist()
        for sample, grid, index in zip(batch, layout.grids, kept, strict=True):
            result.evidence.append(evidence_kept(sample, grid, index))
        advance(len(batch))
    return result


def evidence_kept(sample: Sample, grid: Tensor, kept: Tensor) -> float:
    """Share of the evidence that lies on kept tokens, of the best covered group where there are several; NaN without boxes."""
    shares = [token_shares(sample, boxes, grid) for boxes in (sample.evidence_boxes, *sample.alt_evidence) if boxes]
    return max((float(share[kept].sum() / share.sum()) for share in shares if share.sum() > 0), default=float("nan"))


def tell(method: Method, batch: Sequence[Sample], grids: Sequence[Tensor]) -> None:
    """Tell oracles what the next batch holds."""
    pairs = zip(batch, grids, strict=True)
    method.begin(
        [
            OracleSample(token_shares(sample, sample.evidence_boxes, grid), token_shares(sample, sample.key_boxes, grid))
            for sample, grid in pairs
        ]
    )


class Prepared(NamedTuple):
    """One sample as `choose` wants it."""

    inputs: Mapping[str, Any]
    encoded: Encoded
    layout: Layout


@torch.no_grad()
def prepare(teacher: Teacher, sample: Sample, watch_tower: bool = False) -> Prepared:
    """Prompt and vision features of one sample."""
    inputs = teacher.prompter([sample]).inputs
    encoded = teacher.backbone.encode(inputs, watch_tower)
    return Prepared(inputs, encoded, teacher.backbone.layout(inputs, encoded))


def method_macs(teacher: Teacher, sample: Sample, method: Method, keep: Keep) -> int:
    """The method's own MACs on one sample, counted as it runs (torch's FlopCounterMode counts two per MAC)."""
    prepared = prepare(teacher, sample, method.reads_tower)
    tell(method, [sample], prepared.layout.grids)
    with flop_counter() as counter:
        choose(teacher.backbone, method, keep, *prepared)
    return counter.get_total_flops() // 2


def prefill_ms(teacher: Teacher, batch: Sequence[Sample], method: Method, keep: Keep, repeats: int = 7) -> tuple[float, float]:
    """(pruned, dense) milliseconds per sample of one whole prefill: tower, projector, method, LLM; medians of alternating runs."""
    prompts = teacher.prompter(batch)
    grids = teacher.backbone.layout(prompts.inputs).grids
    times: tuple[list[float], list[float]] = ([], [])
    with torch.no_grad():
        for _ in range(repeats + 2):
            tell(method, batch, grids)
            start = time.perf_counter()
            with prune(teacher.model, method, keep):
                teacher.model(**prompts.inputs, logits_to_keep=1)
            middle = time.perf_counter()
            teacher.model(**prompts.inputs, logits_to_keep=1)
            times[0].append(middle - start)
            times[1].append(time.perf_counter() - middle)
    pruned, dense = (1000 * statistics.median(each[2:]) / len(batch) for each in times)  # two warm-up rounds
    return pruned, dense
