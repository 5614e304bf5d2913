"""The projector by itself: what it makes of states that a method has changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ...typing import Float
from ..family_spec import family_spec

Project = Callable[[Float[Tensor, "m E"]], Float[Tensor, "m D"]]
_ONE_BY_ONE = (None, "packed")  # of `FamilySpec.patch_merge`: one patch, one token
_NEAR = 2.0**-5  # of a feature's length; more than half precision is apart


@torch.no_grad()
def projector_of(
    model: Any, states: Float[Tensor, "n E"], features: Float[Tensor, "n D"]
) -> Project | None:
    """Find what makes each of `features` out of the state beside it.

    None where there is no such thing: several patches make a token, or more than the projector
    stands between the two. States of zeros belong to tokens that are no patches (ends of lines).
    """
    projector = getattr(model.base_model, "multi_modal_projector", None)
    if projector is None or family_spec(model.config).patch_merge not in _ONE_BY_ONE:
        return None

    def project(rows: Float[Tensor, "m E"]) -> Float[Tensor, "m D"]:
        return projector(rows.to(_dtype(projector, states))[None])[0]

    patches = states.any(-1)
    wanted = features[patches].float()
    error = (project(states[patches]).float() - wanted).norm(dim=-1)
    return project if bool((error <= _NEAR * wanted.norm(dim=-1)).all()) else None


def _dtype(projector: nn.Module, states: Tensor) -> torch.dtype:
    """The projector's number type; that of the states where its weights are quantised."""
    weight = next(projector.parameters(), states)
    return weight.dtype if weight.is_floating_point() else states.dtype
