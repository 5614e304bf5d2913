"""Position ids of a prompt, as the model itself would make them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from .family_spec import family_spec


def prompt_positions(model: PreTrainedModel, inputs: Mapping[str, Any], generating: bool) -> Tensor:
    """Make `[B, S]`, or `[P, B, S]` for families with several axes; B may be 1.

    `generate` counts real tokens; a plain forward call of a family with one axis counts columns,
    padding included, and so does one with several that is not told where the pictures are.
    """
    given, ids = inputs.get("position_ids"), inputs["input_ids"]
    if given is not None:
        return given
    # Private, but the one place where every family's own positions (M-RoPE included) are made.
    prepare: Any = model._prepare_position_ids_for_generation
    positions: Tensor = prepare(ids, dict(inputs))
    if generating:
        return positions
    about = family_spec(model.config)
    columns = torch.arange(ids.shape[1], device=positions.device)
    if about.counts_real_tokens:
        mask = inputs.get("attention_mask", torch.ones_like(ids))
        return mask.cumsum(-1) * mask - 1
    if positions.ndim == 2:
        return columns[None] + about.first_position
    return columns.expand_as(positions) if _counts_columns(model, inputs) else positions


def _counts_columns(model: PreTrainedModel, inputs: Mapping[str, Any]) -> bool:
    """Return whether a plain call of a model with several axes leaves all of them to columns.

    Raises what the model raises where it does not.
    """
    compute: Any = getattr(model.base_model, "compute_3d_position_ids", None)
    if compute is None or inputs.get("mm_token_type_ids") is not None:
        return False
    names = inspect.signature(compute).parameters
    return compute(**{name: inputs.get(name) for name in names}) is None
