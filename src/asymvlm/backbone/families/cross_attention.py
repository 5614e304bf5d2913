"""Families whose LLM reads pictures through cross-attention, not through the sequence."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...engine import ForwardPass
from ...errors import DataError
from ...typing import Bool, Float, Int64
from ..attention_recorder import AttentionRecorder, record_first_layers
from ..backbone import Backbone
from ..layout import Call, EncodedPictures, Layout
from ..tower.watch import encoding


class CrossAttention(Backbone):
    """Common parts of such families: pictures (or tiles) of equal length, padded ones masked.

    `EncodedPictures.output` holds the states as the model pads them, `[B, ..., L, E]`.
    """

    mask_argument: str  # [B, S, pictures...], 1 where a row of the text may look
    states_argument: str  # encoded pictures instead of pixels
    tower_part: str  # what tells such a model from others

    def _check(self) -> None:
        if not hasattr(self.model.base_model, self.tower_part):
            raise DataError(
                f"{type(self.model).__name__} has no {self.tower_part}, so it is not one of its "
                "family"
            )

    @property
    @abstractmethod
    def length(self) -> int:
        """L, vision tokens per picture."""

    @property
    @abstractmethod
    def vision_layers(self) -> list[nn.Module]:
        """Modules that attend to pictures."""

    @abstractmethod
    def places(self, picture: int) -> Int64[Tensor, "L 3"]:
        """Return picture, row and column of the tokens of one picture."""

    @abstractmethod
    def states(self, inputs: Mapping[str, Any]) -> Float[Tensor, "..."]:
        """Encode the pictures, padded ones included: `[B, ..., L, E]`."""

    def features(self, states: Float[Tensor, "*n E"]) -> Float[Tensor, "*n D"]:
        """Project states to the LLM's hidden size, for scorers."""
        return states

    def encode(self, inputs: Mapping[str, Any], watch_tower: bool = False) -> EncodedPictures:
        if watch_tower:
            raise ValueError(
                f"the tower of {type(self.model).__name__} cannot be watched; choose another method"
            )
        with encoding(self.model):
            states = self.states(inputs)
        return EncodedPictures(states, list(self.features(states[self._real_pictures(inputs)])))

    def _real_pictures(self, inputs: Mapping[str, Any]) -> Bool[Tensor, "B ..."]:
        """Mark the real pictures: those that any text row may attend to."""
        return inputs[self.mask_argument].bool().any(1)

    def placeholders(self, input_ids: Int64[Tensor, "B S"]) -> Bool[Tensor, "B S"]:
        return torch.zeros_like(input_ids, dtype=torch.bool)

    def slots(self, inputs: Mapping[str, Any]) -> list[Int64[Tensor, "n"]]:
        """Index each sample's vision tokens among all of its row, padded pictures included."""
        within = torch.arange(self.length, device=self.device)
        return [
            (real.nonzero() * self.length + within).flatten()
            for real in self._real_pictures(inputs).flatten(1)
        ]

    def layout(self, inputs: Mapping[str, Any], encoded: EncodedPictures | None = None) -> Layout:
        ids = inputs["input_ids"]
        grids = []
        for real in self._real_pictures(inputs).flatten(1):
            each = [self.places(number) for number in range(int(real.sum()))]
            grids.append(torch.cat(each).to(ids.device) if each else ids.new_zeros(0, 3))
        mask = inputs.get("attention_mask", torch.ones_like(ids))
        return Layout(ids, mask, self.placeholders(ids), grids, self.template_ids)

    def chosen(
        self, call: Call
    ) -> tuple[Float[Tensor, "B K E"], Int64[Tensor, "B K"], Bool[Tensor, "B K"]]:
        """Gather the kept tokens' states, their indices in the row, and which are no padding."""
        slots = self.slots(call.inputs)
        rows = [own[choice.index] for own, choice in zip(slots, call.kept, strict=True)]
        index = torch.zeros(
            len(rows), max(1, *(len(row) for row in rows)), dtype=torch.long, device=self.device
        )
        real = torch.zeros_like(index, dtype=torch.bool)
        for number, row in enumerate(rows):
            index[number, : len(row)], real[number, : len(row)] = row, True
        flat = call.encoded.output.flatten(1, -2)
        return flat.gather(1, index[..., None].expand(-1, -1, flat.shape[-1])), index, real

    def has_encoded(self, inputs: Mapping[str, Any]) -> bool:
        return False

    def encoded_argument(self, inputs: Mapping[str, Any]) -> str | None:
        names = (self.states_argument, "image_hidden_states")
        return next((name for name in names if inputs.get(name) is not None), None)

    def read_pruned(self, forward: ForwardPass, call: Call) -> None:
        """Have a forward pass attend to fewer vision tokens; `generate` is given them at once."""
        assert forward.ids is not None
        if self.brings_pictures(forward.inputs):
            forward.inputs = self.drop(call, generating=False)
        copies = len(forward.ids) // len(call.layout.input_ids)
        forward.prompt_mask = call.layout.attention_mask.repeat_interleave(copies, dim=0)
        forward.prompt_length = forward.prompt_mask.shape[1]
        forward.family = tuple(item.repeat_interleave(copies, dim=0) for item in call.family)

    def generation_arguments(self, call: Call) -> dict[str, Any]:
        return self.drop(call, generating=True)

    def with_pictures(self, inputs: Mapping[str, Any], encoded: EncodedPictures) -> dict[str, Any]:
        return self.without_pictures(inputs) | {self.states_argument: encoded.output}

    def extended(
        self, call: Mapping[str, Any], ids: Int64[Tensor, "B L"], tail_mask: Int64[Tensor, "B L"]
    ) -> dict[str, Any]:
        mask = call[self.mask_argument]
        repeated = mask[:, -1:].expand(-1, ids.shape[1], *mask.shape[2:])
        return super().extended(call, ids, tail_mask) | {
            self.mask_argument: torch.cat([mask, repeated], dim=1)
        }

    @property
    def attending_layers(self) -> int:
        return len(self.vision_layers)

    @torch.no_grad()
    def attention(
        self,
        call: Mapping[str, Any],
        layout: Layout,
        rows: Float[Tensor, "B S"],
        layers: Sequence[int],
        heads: str,
    ) -> list[Float[Tensor, "n"]]:
        slots = self.slots(call)
        columns = torch.zeros(
            len(slots),
            self._real_pictures(call)[0].numel() * self.length,
            dtype=torch.bool,
            device=self.device,
        )
        for row, own in zip(columns, slots, strict=True):
            row[own] = True
        recorder = AttentionRecorder(
            rows, columns, heads, only=self.vision_layers, count=max(layers) + 1
        )
        record_first_layers(self.model, call, recorder)
        mass = torch.stack([recorder.layers[layer] for layer in layers]).mean(0)
        return [row[own] for row, own in zip(mass, slots, strict=True)]
