"""One pair of optimisers for every stage of the recipe: Muon on hidden matrices, AdamW on the rest."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn


# The tower's queries and keys start where heads have to look. At the full rate they drift off before there is anything to see,
# and the tower learns its first words five times as slowly and no binding at all (docs/log.md).
_LOOKING = ("q_proj", "k_proj")
_LOOKING_RATE = 0.1


def build_optimizers(modules: Iterable[nn.Module], tower: nn.Module | None) -> list[torch.optim.Optimizer]:
    """[Muon with AdamW-matched step sizes, AdamW]. Each group's `scale` multiplies the rate of the step.

    Embeddings, position tables, convolutions, biases and gains are no hidden matrices.
    """
    looking = {
        id(parameter)
        for name, parameter in (tower.named_parameters() if tower else ())
        if any(part in name for part in _LOOKING)
    }
    matrices, rest, slow, seen = [], [], [], set()
    for child in (child for module in modules for child in module.modules()):
        for name, parameter in child.named_parameters(recurse=False):
            if id(parameter) in seen or not parameter.requires_grad:
                continue
            seen.add(id(parameter))
            hidden = isinstance(child, nn.Linear) and name == "weight"
            (slow if id(parameter) in looking else matrices if hidden else rest).append(parameter)
    groups = [{"params": rest, "scale": 1.0}, {"params": slow, "scale": _LOOKING_RATE}]
    return [
        torch.optim.Muon([{"params": matrices, "scale": 1.0}], weight_decay=0.02, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW([group for group in groups if group["params"]], betas=(0.9, 0.98), weight_decay=0.0),
    ]


def learning_rate(step: int, steps: int, peak: float, warm_up: int = 40, floor: float = 0.05) -> float:
    """Linear warm-up, then a cosine from `peak` to `floor * peak` at `steps`."""
    if step < warm_up:
        return peak * (step + 1) / warm_up
    share = min(1.0, (step - warm_up) / max(1, steps - warm_up))
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * share)))
