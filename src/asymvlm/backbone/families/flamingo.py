"""Idefics v1, the open Flamingo (arXiv 2204.14198)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from ...engine import ForwardPass
from ...typing import Bool, Float, Int64
from ..grid import ordered_places, square_places
from ..layout import Call, EncodedPictures
from ..tower.watch import encoding, watching
from .cross_attention import CrossAttention


class Flamingo(CrossAttention):
    """Idefics v1: every kept token becomes a picture of one token with its own mask column.

    So ragged batches need nothing of the model. Vision features, for scorers, are what a token
    would write into the LLM's stream at the first gated layer: they have the LLM's width, whatever
    the tower's.
    """

    model_types = ("idefics",)

    mask_argument = "image_attention_mask"
    tower_part = "gated_cross_attn_layers"

    @property
    def states_argument(self) -> str:  # type: ignore[override]
        return (
            "perceiver_embeddings"
            if self.model.config.use_resampler
            else "image_encoder_embeddings"
        )

    @cached_property
    def picture_names(self) -> tuple[str, ...]:
        return ("pixel_values", "interpolate_pos_encoding")

    @property
    def length(self) -> int:
        config = self.model.config
        patches = (config.vision_config.image_size // config.vision_config.patch_size) ** 2
        return config.perceiver_config.resampler_n_latents if config.use_resampler else patches + 1

    @property
    def vision_layers(self) -> list[nn.Module]:
        inner: Any = self.model.base_model
        return [layer.cross_attn for layer in inner.gated_cross_attn_layers]

    def places(self, picture: int) -> Int64[Tensor, "L 3"]:
        place = ordered_places if self.model.config.use_resampler else square_places
        return place(picture, self.length)

    def states(self, inputs: Mapping[str, Any]) -> Float[Tensor, "B I L E"]:
        inner: Any = self.model.base_model
        pixels = inputs["pixel_values"]
        arguments = {
            **self.picture_arguments(inputs),
            "pixel_values": pixels.flatten(0, 1).to(self.model.dtype),
        }
        states = inner.vision_model(**arguments).last_hidden_state
        if self.model.config.use_resampler:
            states = inner.perceiver_resampler(states)
        return states.unflatten(0, pixels.shape[:2])

    def encode(self, inputs: Mapping[str, Any], watch_tower: bool = False) -> EncodedPictures:
        if not watch_tower:
            return super().encode(inputs)
        with encoding(self.model), watching(self.model) as watcher:
            encoded = super().encode(inputs)
        real = self._real_pictures(inputs).flatten().nonzero()
        every = watcher.view(
            "resampled" if self.model.config.use_resampler else None,
            encoded.output[..., 0].numel(),
            inputs,
        )
        encoded.tower = every.of(
            (real * self.length + torch.arange(self.length, device=self.device)).flatten()
        )
        return encoded

    def features(self, states: Float[Tensor, "*n E"]) -> Float[Tensor, "*n D"]:
        first: Any = self.vision_layers[0]
        return first.o_proj(first.v_proj(states))

    def drop(self, call: Call, generating: bool) -> dict[str, Any]:
        if any(choice.features is not None for choice in call.kept):
            name = type(self.model).__name__
            raise ValueError(
                f"{name}: methods that fuse tokens need them in the LLM's own sequence; choose one "
                "that drops"
            )
        states, index, real = self.chosen(call)
        mask = call.inputs[self.mask_argument]
        picture = index // self.length
        call.family = picture, real
        # `generate` names them as the model returns them.
        argument = "image_hidden_states" if generating else self.states_argument
        return self.without_pictures(call.inputs) | {
            argument: states[:, :, None],
            self.mask_argument: _of_tokens(mask, picture, real),
        }

    def before_step(self, forward: ForwardPass) -> None:
        """Fit the mask of a loop written by hand; `generate` was given the one that fits."""
        inputs, mask = forward.inputs, forward.inputs.get(self.mask_argument)
        if forward.call is None and mask is not None and forward.family:
            inputs[self.mask_argument] = _of_tokens(mask, *forward.family)


def _of_tokens(
    mask: Int64[Tensor, "B S I"], picture: Int64[Tensor, "B K"], real: Bool[Tensor, "B K"]
) -> Int64[Tensor, "B S K"]:
    """Turn a mask of pictures into one of kept tokens."""
    return mask.gather(2, picture[:, None].expand(-1, mask.shape[1], -1)) * real[:, None]
