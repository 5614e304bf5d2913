"""One pair of optimisers for every stage of the recipe.

Muon on hidden matrices, AdamW on the rest.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

# The tower's queries and keys start as heads have to attend. At the full rate they drift off
# before there is anything to see: the tower then learns its first words five times as slowly and no
# binding at all (docs/log.md). So they move slowly until words are there.
_QUERIES_AND_KEYS = ("q_proj", "k_proj")


def attention_scale(share: float) -> float:
    """Factor on the rate of the tower's queries and keys, by progress of the first stage."""
    return 0.1 if share < 0.4 else 0.6


def build_optimizers(
    modules: Iterable[nn.Module], tower: nn.Module | None
) -> list[torch.optim.Optimizer]:
    """[Muon with AdamW-matched step sizes, AdamW].

    The groups of the tower's queries and keys are marked `slow`.

    Embeddings, position tables, convolutions, biases and gains are no hidden matrices.
    """
    attending = {
        id(parameter)
        for name, parameter in (tower.named_parameters() if tower else ())
        if any(part in name for part in _QUERIES_AND_KEYS)
    }
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    slow: list[nn.Parameter] = []
    seen: set[int] = set()
    for child in (child for module in modules for child in module.modules()):
        for name, parameter in child.named_parameters(recurse=False):
            if id(parameter) in seen or not parameter.requires_grad:
                continue
            seen.add(id(parameter))
            hidden = isinstance(child, nn.Linear) and name == "weight"
            (slow if id(parameter) in attending else matrices if hidden else rest).append(parameter)
    groups = [{"params": rest, "slow": False}, {"params": slow, "slow": True}]
    return [
        torch.optim.Muon(
            [{"params": matrices, "slow": False}],
            weight_decay=0.02,
            adjust_lr_fn="match_rms_adamw",
        ),
        torch.optim.AdamW(
            [group for group in groups if group["params"]], betas=(0.9, 0.98), weight_decay=0.0
        ),
    ]
