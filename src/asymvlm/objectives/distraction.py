"""A term against tokens that resemble the evidence and are none."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from ..limits import check_at_least
from ..typing import Float
from .base import Labels, Objective, Prediction


class Distraction(Objective):
    """Scores distractors below the average token of their sample.

    Formula: sum_j d_j softplus(margin + s_j - mean_i s_i), d the distractors' distribution, the
    mean over the sample's own tokens; the mean over samples. Once the evidence is in, a budget is
    better spent on anything but what resembles it.
    Relates to `Distillation`: that one can say how little a token matters, not that it does harm;
    every proper score leaves what resembles the evidence right behind it.
    Reference: ours; the loss of a pair is RankNet's, Burges et al., ICML 2005.
    """

    needs = frozenset({"distractors"})

    def __init__(self, weight: float = 0.0, margin: float = 1.0) -> None:
        super().__init__(weight)
        check_at_least(0, {"margin": margin})
        self.margin = margin

    def forward(self, prediction: Prediction, labels: Labels) -> Float[Tensor, ""]:
        assert labels.distractors is not None
        scores, mask = prediction.scores.float(), labels.vision_mask
        mean = scores.masked_fill(~mask, 0).sum(-1, keepdim=True) / mask.sum(
            -1, keepdim=True
        ).clamp_min(1)
        losses = F.softplus(self.margin + scores - mean)  # distractors are 0 on padding
        return (labels.distractors * losses).sum(-1).mean()
