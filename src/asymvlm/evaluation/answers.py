"""Running a model over questions, dense or pruned, and what came of each."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

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

    evidence_share: torch.Tensor
    key_share: torch.Tensor


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
        prompts = teacher.prompter([sample.image for sample in batch], [sample.question for sample in batch])
        layout = teacher.backbone.layout(prompts.inputs)
        length = prompts.inputs["input_ids"].shape[1]
        arguments = {"max_new_tokens": 8, "do_sample": False}
        counts = layout.counts()
        if method is None:
            made, kept = teacher.model.generate(**prompts.inputs, **arguments), [torch.arange(count) for count in counts]
        else:
            method.begin([_oracle(sample, grid) for sample, grid in zip(batch, layout.grids, strict=True)])
            with prune(teacher.model, method, keep) as report:
                made = teacher.model.generate(**prompts.inputs, **arguments)
            kept = report.calls[-1].kept
        result.answers += teacher.prompter.decode(made[:, length:])
        result.vision_tokens += counts
        result.kept_tokens += [len(index) for index in kept]
        result.text_tokens += layout.text.sum(-1).tolist()
        for sample, grid, index in zip(batch, layout.grids, kept, strict=True):
            share = token_shares(sample, sample.evidence_boxes, grid)
            result.evidence.append(float(share[index].sum() / share.sum()) if share.sum() > 0 else float("nan"))
        advance(len(batch))
    return result


def _oracle(sample: Sample, grid: torch.Tensor) -> OracleSample:
    return OracleSample(token_shares(sample, sample.evidence_boxes, grid), token_shares(sample, sample.key_boxes, grid))


def method_macs(teacher: Teacher, sample: Sample, method: Method, keep: Keep) -> int:
    """The method's own MACs on one sample, counted as it runs (torch's FlopCounterMode counts two per MAC)."""
    prompts = teacher.prompter([sample.image], [sample.question])
    with torch.no_grad():
        encoded = teacher.backbone.encode(prompts.inputs)
        layout = teacher.backbone.layout(prompts.inputs, encoded)
        method.begin([_oracle(sample, layout.grids[0])])
        with flop_counter() as counter:
            choose(teacher.backbone, method, keep, prompts.inputs, encoded, layout)
    return counter.get_total_flops() // 2


def prefill_ms(teacher: Teacher, batch: Sequence[Sample], method: Method, keep: Keep, repeats: int = 7) -> tuple[float, float]:
    """(pruned, dense) milliseconds per sample of one whole prefill: tower, projector, method, LLM; medians of alternating runs."""
    prompts = teacher.prompter([sample.image for sample in batch], [sample.question for sample in batch])
    grids = teacher.backbone.layout(prompts.inputs).grids
    times: tuple[list[float], list[float]] = ([], [])
    with torch.no_grad():
        for _ in range(repeats + 2):
            method.begin([_oracle(sample, grid) for sample, grid in zip(batch, grids, strict=True)])
            start = time.perf_counter()
            with prune(teacher.model, method, keep):
                teacher.model(**prompts.inputs, logits_to_keep=1)
            middle = time.perf_counter()
            teacher.model(**prompts.inputs, logits_to_keep=1)
            times[0].append(middle - start)
            times[1].append(time.perf_counter() - middle)
    pruned, dense = (1000 * statistics.median(each[2:]) / len(batch) for each in times)  # two warm-up rounds
    return pruned, dense
