"""Mllama (Llama 3.2 Vision), whose tiles stay in the cache while it generates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from ...typing import Bool, Float, Int64
from ..grid import square_places
from ..layout import Encoded, Kept, Layout
from .cross_attention import CrossAttention


class Mllama(CrossAttention):
    """Passes fewer cross-attention states, and drops the same columns of the tile mask.

    The mask is made inside the model, so a hook on the language model picks its columns, in the
    prefill and at every step after.
    """

    model_types = ("mllama",)

    mask_argument = "cross_attention_mask"
    states_argument = "cross_attention_states"
    tower_part = "vision_model"
    # Of the newest call: columns, and which are no filling.
    _left: tuple[Int64[Tensor, "B K"], Bool[Tensor, "B K"]] | None = None

    @cached_property
    def picture_names(self) -> tuple[str, ...]:
        return ("pixel_values", "aspect_ratio_ids", "aspect_ratio_mask")

    @property
    def length(self) -> int:
        inner: Any = self.model.base_model
        return int(inner.vision_model.num_patches)

    @property
    def reading(self) -> list[tuple[int, nn.Module]]:
        layers = self.decoder.layers
        return [
            (number + 1, layers[number].cross_attn)
            for number in sorted(self.decoder.config.cross_attention_layers)
        ]

    def places(self, picture: int) -> Int64[Tensor, "L 3"]:
        return square_places(picture, self.length)

    def states(self, inputs: Mapping[str, Any]) -> Float[Tensor, "B I T L D"]:
        inner: Any = self.model.base_model
        return inner.multi_modal_projector(
            inner.vision_model(**self.picture_arguments(inputs)).last_hidden_state
        )

    def with_pictures(self, inputs: Mapping[str, Any], encoded: Encoded) -> dict[str, Any]:
        return self.without_pictures(inputs) | {self.states_argument: encoded.output.flatten(1, -2)}

    def drop(
        self,
        inputs: dict[str, Any],
        encoded: Encoded,
        layout: Layout,
        kept: list[Kept],
        generating: bool,
    ) -> dict[str, Any]:
        if all(
            len(choice.index) == count and choice.features is None
            for choice, count in zip(kept, layout.counts(), strict=True)
        ):
            # Rows of the text that look at nothing read padded tiles too: so keeping all must keep
            # these.
            self._left = None
            return self.with_pictures(inputs, encoded)
        states, index, real = self.chosen(inputs, encoded, kept)
        for number, choice in enumerate(kept):
            if choice.features is not None:
                states[number, : len(choice.index)] = choice.features.to(states)
        self._left = index, real
        return self.without_pictures(inputs) | {self.states_argument: states}

    @contextmanager
    def ready(self) -> Iterator[None]:
        inner: Any = self.model.base_model
        handles = [
            inner.register_forward_pre_hook(_states_once, with_kwargs=True),
            inner.language_model.register_forward_pre_hook(self._pick_columns, with_kwargs=True),
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
            self._left = None

    def _pick_columns(
        self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        mask = kwargs.get(self.mask_argument)
        if mask is None or self._left is None:
            return args, kwargs
        index, real = (
            part.repeat_interleave(len(mask) // len(part), dim=0)[:, None, None]
            for part in self._left
        )  # beams
        hidden = torch.finfo(mask.dtype).min
        mask = mask.gather(-1, index.expand(-1, -1, mask.shape[2], -1)).masked_fill(~real, hidden)
        # A row that has lost all it looked at is treated as the model treats rows that look at
        # nothing: an open mask, a closed gate.
        blind = (mask == hidden).all(-1, keepdim=True)
        gate = kwargs["full_text_row_masked_out_mask"].masked_fill(blind, 0)
        return args, {
            **kwargs,
            self.mask_argument: mask.masked_fill(blind & real, 0),
            "full_text_row_masked_out_mask": gate,
        }


def _states_once(
    module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Pass the states in the first step of `generate` alone; later they are in the cache."""
    past = kwargs.get("past_key_values")
    if past is not None and int(past.get_seq_length()) > 0:
        kwargs = {**kwargs, "cross_attention_states": None}
    return args, kwargs
