"""The sign of CLIP similarity in a tower: `python -m asymvlm.evaluation.similarity_sign`.

Are the patches that a question needs more like its text, or less?

In CLIP-L/14-336 they are less like it than background (CDPruner's code turns the cosine round), so
every tower has to be asked.
"""

from __future__ import annotations

import sys

from ..cli.door import enter

# Before the imports that take seconds: help and signals do not wait for them.
if __name__ == "__main__":
    sys.exit(enter("similarity-sign"))

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torchmetrics.functional.classification import binary_auroc

from ..cli.command import call_from_flags, run_command
from ..cli.progress import track
from ..distillation.teacher import Teacher
from ..documents import Sample, samples
from ..documents.sources.source import DataSource, as_data_flags
from ..limits import check_at_least
from ..methods.base import Method, Tokens
from ..methods.common.clip_similarity import ClipSimilarity
from ..typing import Bool, Float, Int64
from .answers import pruned_prefill
from .bootstrap import Interval, paired_difference
from .questions import check_split


@dataclass(frozen=True)
class SignCheck:
    """The area under the curve of similarity against evidence, with its interval above chance.

    `area` is 100 times the area under the ROC curve; 50 is chance.
    """

    area: float
    above_chance: Interval
    n: int

    @property
    def sign(self) -> int:
        """The `sign` to set; 0 where the data cannot tell."""
        return (
            int(np.sign(self.above_chance.difference))
            if self.above_chance.low * self.above_chance.high > 0
            else 0
        )


class _Asks(Method):
    """Records the similarity and the model's own attention."""

    reads_tower = True

    def __init__(self, similarity: ClipSimilarity, by_attention: bool) -> None:
        self.similarity, self.by_attention = similarity, by_attention
        self.seen: list[tuple[Float[torch.Tensor, "n"], Float[torch.Tensor, "n"] | None]] = []

    def score(self, tokens: Tokens) -> Float[torch.Tensor, "n"]:
        similarity = self.similarity(tokens)
        self.seen.append(
            (similarity, tokens.dense_attention("question") if self.by_attention else None)
        )
        return similarity


def check_sign(teacher: Teacher, clip: ClipSimilarity, questions: Sequence[Sample]) -> SignCheck:
    """Compute the area under the curve over tokens, mean over questions.

    Against evidence boxes; where there are none, against the tenth of the tokens with the most
    attention from the question's rows.
    """
    areas, pages = [], []
    with track("similarity", len(questions)) as advance:
        for sample in questions:
            asks = _Asks(clip, by_attention=not sample.evidence_boxes)
            call = pruned_prefill(teacher, sample, asks, 1.0)
            similarity, attention = asks.seen[0]
            if attention is None:
                needed = _in_boxes(teacher, sample, call.grids[0])
            else:
                needed = attention >= attention.quantile(0.9)
            if 0 < int(needed.sum()) < len(needed):
                areas.append(float(binary_auroc(similarity, needed.long())))
                pages.append(sample.page)
            advance(1)
    if not areas:
        raise ValueError(
            "pages: no question has both wanted and other tokens; give more questions, or data "
            "with evidence boxes"
        )
    interval = paired_difference(areas, [0.5] * len(areas), pages)
    return SignCheck(100 * float(np.mean(areas)), interval, len(areas))


def _in_boxes(
    teacher: Teacher, sample: Sample, grid: Int64[torch.Tensor, "n 3"]
) -> Bool[torch.Tensor, "n"]:
    share = teacher.token_shares(sample, sample.evidence_boxes, grid)
    return share >= 0.5 * share.max()


def similarity_sign(
    clip: str,
    teacher: str = "checkpoints/tiny-teacher",
    data: DataSource = DataSource(),  # noqa: B008 - nobody changes it
    split: str = "val",
    pages: int = 20,
) -> SignCheck:
    """Find the sign that ATP and CDPruner need for a tower.

    Args:
        clip: Directory or repository of the CLIP whose tower the VLM has.
        teacher: Directory or repository of the VLM.
        data: Where pages come from, as in training; the generated world if left out.
        split: Split to ask about.
        pages: How many pages.
    """
    check_at_least(1, {"pages": pages})
    check_split(split)
    with as_data_flags():
        data.check()
        data.check_root()
    vlm = Teacher.load(teacher)
    with as_data_flags():
        dataset, _ = data.pages(split, pages)
    check = check_sign(
        vlm,
        ClipSimilarity(clip, teacher),
        list(samples(dataset.select(range(min(pages, len(dataset)))))),
    )
    word = {
        1: "sign: 1",
        -1: "sign: -1",
        0: "no sign: the similarity says nothing here, set alpha to 0",
    }[check.sign]
    print(
        f"area under the curve {check.area:.1f} (chance 50), above chance {check.above_chance} "
        f"points, {check.n} questions: {word}"
    )
    return check


def main(arguments: list[str] | None = None, owns_process: bool | None = None) -> int:
    """Measure; returns the exit code."""
    command = functools.partial(call_from_flags, similarity_sign, command="similarity-sign")
    return run_command(command, arguments, owns_process)
