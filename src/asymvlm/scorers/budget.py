"""The budget head: how many vision tokens a sample needs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..limits import check_at_least
from ..typing import Float
from .base import TokenBatch, unit

_POINTS = 16  # where the curve of cumulated score mass is read


class BudgetHead(nn.Module):
    """From vision tokens, text and scores to a keep ratio in (0, 1].

    It reads how concentrated the scores are (their cumulated softmax, sorted, at geometric ranks),
    what the question is about, and what the tokens that the scorer favours are. Scores are
    detached: the budget must not bend the ranking.
    """

    def __init__(self, width: int, hidden: int = 32) -> None:
        super().__init__()
        check_at_least(1, {"width": width, "hidden": hidden})
        self.arguments = {"width": width, "hidden": hidden}
        self.text = nn.Linear(width, hidden)
        self.vision = nn.Linear(width, hidden)
        self.words = nn.Linear(hidden, 1)  # which words say how much is needed
        self.ratio = nn.Sequential(
            nn.Linear(2 * hidden + _POINTS, 2 * hidden), nn.GELU(), nn.Linear(2 * hidden, 1)
        )
        nn.init.constant_(self.ratio[-1].bias, -1.5)  # type: ignore[arg-type]

    def forward(self, batch: TokenBatch, scores: Float[Tensor, "B N"]) -> Float[Tensor, "B"]:
        """Compute keep ratios, independent of how a batch is padded."""
        scale = batch.vision.shape[-1] ** 0.5
        mass = scores.detach().masked_fill(~batch.vision_mask, -torch.inf).softmax(-1)
        words = torch.tanh(self.text(scale * unit(batch.text)))
        weight = self.words(words).squeeze(-1).masked_fill(~batch.text_mask, -torch.inf)
        weight = torch.nan_to_num(weight.softmax(-1))  # a sample without text reads as zero
        question = (weight[..., None] * words).sum(1)
        favoured = torch.tanh(self.vision(scale * unit((mass[..., None] * batch.vision).sum(1))))
        features = torch.cat(
            [question, favoured, _mass_curve(mass, batch.vision_mask.sum(-1)).to(question)], dim=-1
        )
        return torch.sigmoid(self.ratio(features).squeeze(-1))


def _mass_curve(mass: Float[Tensor, "B N"], count: Tensor) -> Float[Tensor, "B P"]:
    """Mass held by the best 1, ..., N tokens, at geometrically growing ranks."""
    held = mass.sort(dim=-1, descending=True).values.cumsum(-1)
    steps = torch.linspace(0, 1, _POINTS, device=mass.device)
    ranks = torch.exp(steps[None, :] * count.clamp_min(1).float().log()[:, None]).round().long() - 1
    return held.gather(-1, ranks.clamp(0, mass.shape[-1] - 1))
