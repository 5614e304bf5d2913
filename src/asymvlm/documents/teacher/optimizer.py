"""One optimiser for every stage of the recipe: Muon on hidden matrices, AdamW on the rest."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn


def split_parameters(modules: Iterable[nn.Module]) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """(hidden matrices, everything else): embeddings, position tables, convolutions, biases and gains are not hidden."""
    matrices, rest, seen = [], [], set()
    for module in modules:
        for child in module.modules():
            for name, parameter in child.named_parameters(recurse=False):
                if id(parameter) in seen or not parameter.requires_grad:
                    continue
                seen.add(id(parameter))
                hidden = isinstance(child, nn.Linear) and parameter.ndim == 2 and name == "weight"
                (matrices if hidden else rest).append(parameter)
    return matrices, rest


def build_optimizers(modules: Iterable[nn.Module], lr: float) -> list[torch.optim.Optimizer]:
    """Muon with AdamW-matched step sizes, and AdamW, at the same rate."""
    matrices, rest = split_parameters(modules)
    return [
        torch.optim.Muon(matrices, lr=lr, weight_decay=0.02, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=lr, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def learning_rate(step: int, steps: int, peak: float, warm_up: int = 40, floor: float = 0.05) -> float:
    """Linear warm-up, then a cosine from `peak` to `floor * peak` at `steps`."""
    if step < warm_up:
        return peak * (step + 1) / warm_up
    share = min(1.0, (step - warm_up) / max(1, steps - warm_up))
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * share)))
