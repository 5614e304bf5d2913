"""Idefics v1, the open Flamingo (arXiv 2204.14198): gated layers read the pictures; nothing of them stands in the sequence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor

from ..errors import DataError
from ..shapes import Bool, Float, Int64
from .backbone import Backbone
from .grid import ordered_places, square_places
from .layout import Encoded, Kept, Layout
from .relevance import RelevanceRecorder, recording


class Flamingo(Backbone):
    """Every kept token is handed over as a picture of one token, with that token's own column in the picture mask.

    So ragged batches need nothing of the model. Vision features, for scorers, are what a token would write into the LLM's stream at the
    first gated layer: they have the LLM's width, whatever the tower's.
    """

    def _check(self) -> None:
        if not hasattr(self.model.base_model, "gated_cross_attn_layers"):
            raise DataError(f"{type(self.model).__name__} has no gated cross-attention layers")

    @property
    def picture_names(self) -> tuple[str, ...]:
        return ("pixel_values", "interpolate_pos_encoding")

    def encode(self, inputs: Mapping[str, Any], watch_tower: bool = False) -> Encoded:
        if watch_tower:
            raise ValueError(f"cls_attention: the tower of {type(self.model).__name__} cannot be watched; choose another method")
        inner: Any = self.model.base_model
        pixels = inputs["pixel_values"]
        arguments = {name: value for name, value in self.picture_arguments(inputs).items() if name != "pixel_values"}
        states = inner.vision_model(pixel_values=pixels.flatten(0, 1).to(self.model.dtype), **arguments).last_hidden_state
        if self.model.config.use_resampler:
            states = inner.perceiver_resampler(states)
        there = self._there(inputs)
        read = inner.gated_cross_attn_layers[0].cross_attn
        pictures = read.o_proj(read.v_proj(states.unflatten(0, pixels.shape[:2])[there]))
        return Encoded(states.unflatten(0, pixels.shape[:2]), list(pictures))

    def _there(self, inputs: Mapping[str, Any]) -> Bool[Tensor, "B I"]:
        """Which pictures are real: those that any row of the text may look at."""
        return inputs["image_attention_mask"].bool().any(1)

    def layout(self, inputs: Mapping[str, Any], encoded: Encoded | None = None) -> Layout:
        encoded = encoded or self.encode(inputs)
        length = encoded.output.shape[2]
        place = ordered_places if self.model.config.use_resampler else square_places
        grids = []
        for row in self._there(inputs):
            # Numbered from 0 without the padding
            each = [place(number, length) for number in range(int(row.sum()))]
            grids.append(torch.cat(each) if each else torch.zeros(0, 3, dtype=torch.long))
        ids = inputs["input_ids"]
        mask = inputs.get("attention_mask", torch.ones_like(ids))
        return Layout(ids, mask, torch.zeros_like(ids, dtype=torch.bool), [grid.to(ids.device) for grid in grids])

    def _slots(self, inputs: Mapping[str, Any], encoded: Encoded) -> list[Int64[Tensor, "n"]]:
        """Per sample, where its vision tokens stand among all of the row, padded pictures included."""
        length = encoded.output.shape[2]
        within = torch.arange(length, device=encoded.output.device)
        return [(row.nonzero() * length + within).flatten() for row in self._there(inputs)]

    def drop(self, inputs: dict[str, Any], encoded: Encoded, layout: Layout, kept: list[Kept], generating: bool) -> dict[str, Any]:
        if any(one.features is not None for one in kept):
            name = type(self.model).__name__
            raise ValueError(f"{name}: methods that fuse tokens need them in the LLM's own sequence; choose one that drops")
        slots = [mine[one.index] for mine, one in zip(self._slots(inputs, encoded), kept, strict=True)]
        states, mask = self._one_by_one(encoded.output, inputs["image_attention_mask"], slots)
        pictures = self.picture_arguments(inputs)
        result = {name: value for name, value in inputs.items() if name not in pictures}
        return result | {"image_attention_mask": mask, self._argument(generating): states}

    def _argument(self, generating: bool) -> str:
        if generating:
            return "image_hidden_states"
        return "perceiver_embeddings" if self.model.config.use_resampler else "image_encoder_embeddings"

    @staticmethod
    def _one_by_one(
        states: Float[Tensor, "B I L E"], mask: Int64[Tensor, "B S I"], slots: list[Int64[Tensor, "k"]]
    ) -> tuple[Float[Tensor, "B K 1 E"], Int64[Tensor, "B S K"]]:
        """The chosen tokens as pictures of one token each; those of shorter rows are filled up with what no row may look at."""
        longest = max(1, *(len(one) for one in slots))
        index = torch.zeros(len(slots), longest, dtype=torch.long, device=states.device)
        there = torch.zeros_like(index, dtype=torch.bool)
        for row, one in enumerate(slots):
            index[row, : len(one)], there[row, : len(one)] = one, True
        flat = states.flatten(1, 2)
        chosen = flat.gather(1, index[..., None].expand(-1, -1, flat.shape[-1]))
        picture = (index // states.shape[2])[:, None].expand(-1, mask.shape[1], -1)
        return chosen[:, :, None], mask.gather(2, picture) * there[:, None]

    def with_pictures(self, inputs: Mapping[str, Any], encoded: Encoded) -> dict[str, Any]:
        pictures = self.picture_arguments(inputs)
        call = {name: value for name, value in inputs.items() if name not in pictures}
        return call | {self._argument(generating=False): encoded.output}

    def extended(self, call: Mapping[str, Any], ids: Int64[Tensor, "B L"], there: Int64[Tensor, "B L"]) -> dict[str, Any]:
        mask = call["image_attention_mask"]
        longer = torch.cat([mask, mask[:, -1:].expand(-1, ids.shape[1], -1)], dim=1)
        return super().extended(call, ids, there) | {"image_attention_mask": longer}

    @property
    def attending_layers(self) -> int:
        return len(self.model.base_model.gated_cross_attn_layers)

    @torch.no_grad()
    def attention(
        self, call: Mapping[str, Any], layout: Layout, rows: Float[Tensor, "B S"], layers: Sequence[int], heads: str
    ) -> list[Float[Tensor, "n"]]:
        inner: Any = self.model.base_model
        states = call[self._argument(generating=False)]
        slots = self._slots(call, Encoded(states, []))
        columns = torch.zeros(states.shape[0], states.shape[1] * states.shape[2], dtype=torch.bool, device=states.device)
        for row, mine in zip(columns, slots, strict=True):
            row[mine] = True
        reading = [layer.cross_attn for layer in inner.gated_cross_attn_layers]
        recorder = RelevanceRecorder(rows, columns, heads, only=reading)
        with ExitStack() as open_now:
            open_now.enter_context(recording(self.model))
            open_now.enter_context(self._first_layers(max(layers) * inner.cross_layer_interval + 1))
            inner(**call, use_cache=False, relevance=recorder)
        mass = torch.stack([recorder.layers[layer] for layer in layers]).mean(0)
        return [row[mine] for row, mine in zip(mass, slots, strict=True)]
