"""Loss terms on the pruned answer, for training through the LLM."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from ..typing import Float
from .base import Labels, Objective, Prediction


class AnswerDivergence(Objective):
    """KL(dense || pruned) of the next token, in nats, over the answer's tokens.

    Formula: mean over samples of the mean over the tokens a of the forced answer of sum_v p_a(v)
    (log p_a(v) - log q_a(v)), p with all vision tokens there, q behind the gates.
    Relates to `AnswerCrossEntropy`: needs no right answers, and asks for the model's own mistakes
    too.
    Reference: Hinton et al., arXiv 1503.02531.
    """

    needs = frozenset({"answers", "dense_answers"})

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__(weight)

    def forward(self, prediction: Prediction, labels: Labels) -> Float[Tensor, ""]:
        assert (
            prediction.answers is not None
            and labels.answers is not None
            and labels.answer_ids is not None
        )
        log_q = prediction.answers.float().log_softmax(-1)
        log_p = labels.answers.float().log_softmax(-1)
        return _mean_of_means((log_p.exp() * (log_p - log_q)).sum(-1), labels.answer_ids)


class AnswerCrossEntropy(Objective):
    """Cross-entropy to the tokens of the right answer, in nats.

    Formula: mean over samples of the mean over the answer's tokens of -log q_a(y_a).
    Relates to `AnswerDivergence`: needs right answers, and may make the pruned model better than
    the dense one on the training pages.
    Reference: how VisionSelector trains its scorer (arXiv 2510.16598).
    """

    needs = frozenset({"answers"})

    def __init__(self, weight: float = 0.0) -> None:
        super().__init__(weight)

    def forward(self, prediction: Prediction, labels: Labels) -> Float[Tensor, ""]:
        assert prediction.answers is not None and labels.answer_ids is not None
        losses = cross_entropy(
            prediction.answers.float().mT, labels.answer_ids, ignore_index=-100, reduction="none"
        )
        return _mean_of_means(losses, labels.answer_ids)


def _mean_of_means(values: Float[Tensor, "B A"], ids: Tensor) -> Float[Tensor, ""]:
    """Average over the answer's tokens, then over samples, so that length does not count."""
    mask = ids != -100
    return (torch.where(mask, values, 0.0).sum(-1) / mask.sum(-1).clamp_min(1)).mean()
