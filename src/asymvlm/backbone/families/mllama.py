"""Mllama (Llama 3.2 Vision), whose tiles stay in the cache while it generates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from ...engine import ForwardPass, hooked
from ...typing import Bool, Float, Int64
from ..grid import square_places
from ..layout import Call, EncodedPictures
from .cross_attention import CrossAttention

_ROWS_THAT_LOOK = "full_text_row_masked_out_mask"


class Mllama(CrossAttention):
    """Passes fewer cross-attention states, and drops the same columns of the tile mask.

    The mask is made inside the model, so a hook on the language model picks its columns, in the
    prefill and at every step after.
    """

    model_types = ("mllama",)

    mask_argument = "cross_attention_mask"
    states_argument = "cross_attention_states"
    tower_part = "vision_model"

    @cached_property
    def picture_names(self) -> tuple[str, ...]:
        return ("pixel_values", "aspect_ratio_ids", "aspect_ratio_mask")

    @property
    def length(self) -> int:
        inner: Any = self.model.base_model
        return int(inner.vision_model.num_patches)

    @property
    def vision_layers(self) -> list[nn.Module]:
        layers = self.decoder.layers
        return [
            layers[number].cross_attn
            for number in sorted(self.decoder.config.cross_attention_layers)
        ]

    def places(self, picture: int) -> Int64[Tensor, "L 3"]:
        return square_places(picture, self.length)

    def states(self, inputs: Mapping[str, Any]) -> Float[Tensor, "B I T L D"]:
        inner: Any = self.model.base_model
        return inner.multi_modal_projector(
            inner.vision_model(**self.picture_arguments(inputs)).last_hidden_state
        )

    def with_pictures(self, inputs: Mapping[str, Any], encoded: EncodedPictures) -> dict[str, Any]:
        return self.without_pictures(inputs) | {self.states_argument: encoded.output.flatten(1, -2)}

    def drop(self, call: Call, generating: bool) -> dict[str, Any]:
        if not call.drops:
            # Rows of the text that look at nothing read padded tiles too: so keeping all must keep
            # these.
            return self.with_pictures(call.inputs, call.encoded)
        states, index, real = self.chosen(call)
        for number, choice in enumerate(call.kept):
            if choice.features is not None:
                states[number, : len(choice.index)] = choice.features.to(states)
        # Columns of the tiles that later steps look at, and which of them are no filling.
        call.family = index, real
        return self.without_pictures(call.inputs) | {self.states_argument: states}

    def before_step(self, forward: ForwardPass) -> None:
        """Pass the states in the first step of `generate` alone; later they are in the cache."""
        forward.inputs[self.states_argument] = None

    @contextmanager
    def family_hooks(self, forward: Callable[[], ForwardPass | None]) -> Iterator[None]:
        def pick_columns(
            module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
        ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
            current = forward()
            mask = kwargs.get(self.mask_argument)
            if current is None or not current.family:
                return None
            index, real = current.family
            if mask is None and not bool(real.all()):
                raise ValueError(
                    f"{self.mask_argument}: rows hold different numbers of vision tokens; give the "
                    "mask of the new tokens at each step"
                )
            if mask is None:
                return None
            return args, {**kwargs, **_picked(mask, kwargs[_ROWS_THAT_LOOK], index, real)}

        inner: Any = self.model.base_model
        with hooked(inner.language_model, pick_columns):
            yield


def _picked(
    mask: Float[Tensor, "B 1 S L"],
    gate: Tensor,
    index: Int64[Tensor, "B K"],
    real: Bool[Tensor, "B K"],
) -> dict[str, Tensor]:
    """Pick the columns of the tile mask, and close the gate of rows without a visible tile."""
    index, real = index[:, None, None], real[:, None, None]
    hidden = torch.finfo(mask.dtype).min
    mask = mask.gather(-1, index.expand(-1, -1, mask.shape[2], -1)).masked_fill(~real, hidden)
    # A row that has lost all it looked at is treated as the model treats rows that look at nothing:
    # an open mask, a closed gate.
    blind = (mask == hidden).all(-1, keepdim=True)
    return {
        Mllama.mask_argument: mask.masked_fill(blind & real, 0),
        _ROWS_THAT_LOOK: gate.masked_fill(blind, 0),
    }
