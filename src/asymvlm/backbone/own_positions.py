"""Position ids of families that keep the newest prompt's offset on the model.

With several conversations the newest prompt's offset is the wrong one for all others. Each cache
is given its own prompt's positions, and goes on from these.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..engine import (
    ForwardPass,
    GenerateCall,
    PromptColumns,
    PromptState,
    Stage,
    has_entries,
    is_left_padded,
    mark_pruned,
    prompt_state,
)
from ..typing import Int64

if TYPE_CHECKING:
    from .backbone import Backbone


class OwnPositions(Stage):
    """Makes a cache's next tokens count their positions from the prompt in that cache."""

    name = "positions"
    order = 0

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone

    def begin_generate(self, call: GenerateCall) -> None:
        """Give a further turn of `generate` positions that go on from its own prompt."""
        arguments = call.arguments
        state, ids = prompt_state(arguments.get("past_key_values")), arguments.get("input_ids")
        if state is None or ids is None or arguments.get("position_ids") is not None:
            return
        mask = arguments.get("attention_mask")
        new = (torch.ones_like(ids) if mask is None else mask)[:, state.length :]
        following = state.following(new.cumsum(-1).clamp_min(1))
        if state.positions is not None and following is not None and new.shape[1] > 0:
            arguments["position_ids"] = torch.cat([state.positions, following], dim=-1)

    def before_forward(self, forward: ForwardPass) -> None:
        ids, inputs, state = forward.ids, forward.inputs, forward.state
        if ids is None:
            return
        if state is None and not has_entries(forward.cache):
            if hasattr(self.backbone.model.base_model, "rope_deltas"):
                forward.own[self] = self._positions(ids, inputs)
        elif state is not None and inputs.get("position_ids") is None:
            steps = torch.arange(1, ids.shape[1] + 1, device=ids.device)
            steps = steps + int(forward.cache.get_seq_length()) - state.length
            inputs["position_ids"] = state.following(steps)

    def _positions(self, ids: Tensor, inputs: Mapping[str, Any]) -> Int64[Tensor, "P B S"]:
        """Compute the positions of a prompt; without pictures they count its columns."""
        positions = inputs.get("position_ids")
        if positions is None and self.backbone.brings_pictures(inputs):
            positions = self.backbone.positions({**inputs, "input_ids": ids}, generating=False)
        if positions is None:
            positions = torch.arange(ids.shape[1], device=ids.device)[None]
        if positions.ndim == 2:
            positions = positions.expand(3, *positions.shape)
        return positions.expand(-1, len(ids), -1)

    def after_forward(self, forward: ForwardPass, output: Any) -> None:
        positions, cache = forward.own.get(self), getattr(output, "past_key_values", None)
        if positions is None or cache is None or prompt_state(cache) is not None:
            return
        mask = _mask(forward)
        mark_pruned(
            cache,
            PromptState(
                length=mask.shape[1],
                columns=[PromptColumns.whole(mask)],
                positions=positions[..., : mask.shape[1]],
                last=mask.shape[1] - 1 - mask.flip(1).long().argmax(1),
                left_padded=is_left_padded(mask),
            ),
        )


def _mask(forward: ForwardPass) -> Int64[Tensor, "B S"]:
    """Find the mask of what was read; `generate` may have made another form of it."""
    assert forward.ids is not None
    call, mask, shape = forward.call, forward.inputs.get("attention_mask"), forward.ids.shape
    if isinstance(mask, Tensor) and mask.shape == shape:
        return mask
    given = None if call is None or mask is None else call.attention_mask
    if given is not None and given.shape[1] == shape[1] and shape[0] % len(given) == 0:
        return given.repeat_interleave(shape[0] // len(given), dim=0)
    return torch.ones_like(forward.ids)
