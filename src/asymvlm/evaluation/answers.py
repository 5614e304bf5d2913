"""Answers of a model, dense or pruned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..distillation.teacher import Teacher
from ..documents import Sample
from ..methods import Method
from ..pruning.prune import prune
from ..pruning.report import PrunedCall
from ..selectors import Keep
from ..typing import Float, Int64


@dataclass(frozen=True)
class Answer:
    """The answer to one question, with what it cost."""

    id: str
    text: str
    vision_tokens: int  # before
    per_layer: list[int]  # vision tokens that each LLM layer saw
    text_tokens: int
    evidence: float | None  # share of the evidence that was kept to the end; None without boxes
    pictures: int | list[list[int]]  # as `cost.prefill_cost` takes them
    key: str = ""  # `Sample.key`, which no two questions of a dataset share

    @property
    def left(self) -> float:
        """Share of the vision tokens in the last layer."""
        return self.per_layer[-1] / self.vision_tokens


class OracleSample(NamedTuple):
    """A sample as `Method.begin` gives it to oracles."""

    sample: Sample
    teacher: Teacher

    def evidence_share(self, grid: Int64[Tensor, "n 3"]) -> Float[Tensor, "n"]:
        return self.teacher.token_shares(self.sample, self.sample.evidence_boxes, grid)

    def key_share(self, grid: Int64[Tensor, "n 3"]) -> Float[Tensor, "n"]:
        return self.teacher.token_shares(self.sample, self.sample.key_boxes, grid)


def tell(method: Method, batch: Sequence[Sample], teacher: Teacher) -> None:
    """Announce the next batch to oracles."""
    method.begin([OracleSample(sample, teacher) for sample in batch])


def answer(
    teacher: Teacher, batch: Sequence[Sample], method: Method | None, keep: Keep, longest: int
) -> Iterator[Answer]:
    """Answer a batch of questions greedily; `method` None runs the dense model."""
    inputs = teacher.inputs(batch)
    layout = teacher.backbone.layout(inputs)
    arguments = {"max_new_tokens": longest, "do_sample": False}
    counts, depth = layout.counts(), teacher.backbone.attending_layers
    if method is None:
        output = teacher.model.generate(**inputs, **arguments)
        layers = [[count] * depth for count in counts]
        evidence = [1.0 if sample.evidence_boxes else None for sample in batch]
    else:
        tell(method, batch, teacher)
        with prune(teacher.model, method, keep, template_ids=teacher.prompter.masked_ids) as report:
            output = teacher.model.generate(**inputs, **arguments)
        call = report.calls[-1]
        layers = call.per_layer(depth)
        kept = zip(batch, call.grids, call.kept, strict=True)
        evidence = [_evidence_kept(teacher, *item) for item in kept]
    texts = teacher.prompter.decode(output[:, inputs["input_ids"].shape[1] :])
    pictures = pictures_of(inputs, [len(sample.images) for sample in batch])
    words = layout.text.sum(-1).tolist()
    for row, sample in enumerate(batch):
        yield Answer(
            sample.id,
            texts[row],
            counts[row],
            layers[row],
            words[row],
            evidence[row],
            pictures[row],
            sample.key,
        )


def _evidence_kept(teacher: Teacher, sample: Sample, grid: Tensor, kept: Tensor) -> float | None:
    """Share of the evidence on kept tokens, of the best covered group; None without boxes."""
    shares = [
        teacher.token_shares(sample, boxes, grid.cpu())
        for boxes in (sample.evidence_boxes, *sample.alt_evidence)
        if boxes
    ]
    return max(
        (float(share[kept.cpu()].sum() / share.sum()) for share in shares if share.sum() > 0),
        default=None,
    )


def pictures_of(inputs: Mapping[str, Any], each: Sequence[int]) -> list[int | list[list[int]]]:
    """Count what the tower sees of each sample: patch grids, pictures or tiles."""
    if inputs.get("image_grid_thw") is not None:
        return [part.tolist() for part in inputs["image_grid_thw"].split(list(each))]
    pixels = inputs["pixel_values"]
    if pixels.ndim != 5:
        return list(each)
    tiles = pixels.flatten(2).any(-1).sum(-1)  # padded ones are all zero
    return (
        tiles.tolist()
        if len(tiles) == len(each)
        else [int(part.sum()) for part in tiles.split(list(each))]
    )


@torch.no_grad()
def pruned_prefill(teacher: Teacher, sample: Sample, method: Method, keep: Keep) -> PrunedCall:
    """Prune one sample's prefill and return what was kept."""
    inputs = teacher.inputs([sample])
    tell(method, [sample], teacher)
    with prune(teacher.model, method, keep, template_ids=teacher.prompter.masked_ids) as report:
        teacher.model(**inputs, logits_to_keep=1)
    return report.calls[-1]
