"""Adaptive token pruning: CLS attention mixed with similarity to the question."""

from __future__ import annotations

import torch
from torch import Tensor

from ..typing import Float, Int64
from .base import Method, Tokens
from .common.clip_similarity import ClipSimilarity


class ATP(Method):
    """alpha * inter-modal + (1 - alpha) * intra-modal (ATP, arXiv 2512.12701, section 3).

    Both are min-max normalised per picture.

    Intra-modal is the attention of the tower's CLS (towers without one: attention received).
    Inter-modal is the cosine of patch and prompt in CLIP's joint space, which patches reach through
    CLIP's own norm and projection; of a prompt longer than CLIP's window it is the mean over
    segments (`ClipSimilarity`). In some towers, CLIP-L/14-336 among them, relevant patches are LESS
    similar to the text than background; `python -m asymvlm.evaluation.similarity_sign` tells, and
    `sign=-1` turns it round. The paper leaves normalisation and alpha open, and describes one
    step before the projector with a fixed count.

    Args:
        clip: Directory or repository of the CLIP whose tower the VLM has; None leaves the
            similarity out (alpha must be 0).
        tokenizer: The VLM's own tokenizer; None stands for CLIP's.
        alpha: Weight of the similarity, in [0, 1].
        sign: 1 or -1.

    Raises ValueError for an alpha or a sign out of range, and for an alpha above 0 without a CLIP.
    """

    kind = "atp"
    reads_tower = True
    deviations = ("alpha and the min-max normalisation are ours (the paper leaves both open)",)

    def __init__(
        self,
        clip: str | None = None,
        tokenizer: str | None = None,
        alpha: float = 0.5,
        sign: int = 1,
    ) -> None:
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha: {alpha} is not in [0, 1]")
        if sign not in (1, -1):
            raise ValueError(f"sign: {sign} is neither 1 nor -1")
        if clip is None and alpha > 0:
            raise ValueError(
                f"clip: atp with alpha {alpha} needs the CLIP whose tower the model has; name it, "
                "or set alpha to 0"
            )
        self.alpha, self.sign = alpha, sign
        self.similarity = ClipSimilarity(clip, tokenizer) if clip is not None else None

    def score(self, tokens: Tokens) -> Float[Tensor, "n"]:
        pictures = tokens.grid[:, 0]
        intra = per_picture_min_max(tokens.tower().attention.float(), pictures)
        if self.similarity is None:
            return intra
        inter = per_picture_min_max(self.sign * self.similarity(tokens), pictures)
        return self.alpha * inter + (1 - self.alpha) * intra


def per_picture_min_max(
    values: Float[Tensor, "n"], pictures: Int64[Tensor, "n"]
) -> Float[Tensor, "n"]:
    """Scale each picture's values to [0, 1]; 0 where all are equal."""
    count = int(pictures.max()) + 1
    low, high = (
        values.new_zeros(count).scatter_reduce(0, pictures, values, how, include_self=False)
        for how in ("amin", "amax")
    )
    return (values - low[pictures]) / (high - low)[pictures].clamp_min(
        torch.finfo(values.dtype).tiny
    )
