"""Finding a VLM's vision tokens, its text tokens and their positions, with transformers' own public arguments.

The mechanism: every VLM that puts image tokens into the sequence takes `mm_encoder_outputs` in `forward` and `generate`
(transformers >= 5.18). So its pictures are encoded once, rows are dropped from the features and from the placeholders
alike, and the ordinary model runs on what is left. No model file is copied or patched.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling

from ..errors import DataError
from ..shapes import Bool, Float, Int64
from .families import facts
from .grid import picture_grids
from .tower import watching


@dataclass
class Encoded:
    """The pictures of a batch after tower and projector: the rows that will stand at the vision placeholders."""

    output: BaseModelOutputWithPooling  # as the model made it; `pooler_output` and what goes with it
    pictures: list[Float[Tensor, "n D"]]  # per picture, in the order of the batch's placeholders
    received: Float[Tensor, "T"] | None = None  # attention of the tower that each token got, where it was watched

    @cached_property
    def rows(self) -> Float[Tensor, "T D"]:
        """All vision tokens of the batch, in the order of its placeholders."""
        return torch.cat(self.pictures)


@dataclass
class Layout:
    """Where things are in a batch of prompts. S is the padded length."""

    input_ids: Int64[Tensor, "B S"]
    attention_mask: Int64[Tensor, "B S"]
    vision: Bool[Tensor, "B S"]
    grids: list[Int64[Tensor, "n 3"]]  # per sample: picture, row, column of each vision token

    @property
    def text(self) -> Bool[Tensor, "B S"]:
        """Real tokens that are not vision."""
        return self.attention_mask.bool() & ~self.vision

    def counts(self) -> list[int]:
        """Vision tokens per sample."""
        return self.vision.sum(-1).tolist()


class Backbone:
    """A transformers VLM seen as tower, placeholders and LLM. Works for any class with `mm_encoder_outputs`.

    Raises DataError for a model that is no VLM or takes no pre-encoded pictures.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model.get_base_model() if hasattr(model, "get_base_model") else model  # a PeftModel's inside
        name = type(self.model).__name__
        if not hasattr(self.model.base_model, "get_image_features") or self._image_token_id() is None:
            raise DataError(f"{name} is not a vision-language model with image tokens in its sequence")
        if "mm_encoder_outputs" not in self.forward_names:
            raise DataError(f"{name} takes no mm_encoder_outputs; transformers >= 5.18 has it for every supported VLM")

    def _image_token_id(self) -> int | None:
        config = self.model.config
        return getattr(config, "image_token_id", None)

    @property
    def image_token_id(self) -> int:
        """Id of the placeholder that stands for one vision token."""
        token = self._image_token_id()
        assert token is not None
        return int(token)

    @property
    def width(self) -> int:
        """D, the LLM's hidden size."""
        return int(self.model.config.get_text_config().hidden_size)

    @property
    def device(self) -> torch.device:
        return self.model.device

    def picture_arguments(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Those of `inputs` that belong to the encoding of pictures."""
        return {name: inputs[name] for name in self._picture_names if inputs.get(name) is not None}

    @cached_property
    def _picture_names(self) -> tuple[str, ...]:
        encode: Any = self.model.base_model.get_image_features
        return tuple(name for name in inspect.signature(encode).parameters if name != "kwargs")

    @cached_property
    def forward_names(self) -> tuple[str, ...]:
        """The names of the model's forward arguments, in their order; read once, since every decoding step asks."""
        return tuple(inspect.signature(self.model.forward).parameters)

    def encode(self, inputs: Mapping[str, Any], watch_tower: bool = False) -> Encoded:
        """Tower and projector, once, for all pictures of the batch.

        With `watch_tower` also the tower's attention per token. Raises ValueError where that is about patches that are merged or
        packed before the LLM, and so not about its tokens.
        """
        arguments = self.picture_arguments(inputs)
        if not watch_tower:
            output = self.model.base_model.get_image_features(**arguments, return_dict=True)
            return Encoded(output, list(output.pooler_output))
        with watching(self.model) as watcher:
            encoded = self.encode(inputs)
        assert watcher.received is not None
        encoded.received = watcher.received.flatten()
        if len(encoded.received) != len(encoded.rows):
            raise ValueError(
                f"cls_attention: {type(self.model).__name__} makes {len(encoded.rows)} tokens of {len(encoded.received)} patches; "
                "the tower's attention is not about the LLM's tokens"
            )
        return encoded

    def layout(self, inputs: Mapping[str, Any], encoded: Encoded | None = None) -> Layout:
        """Where the vision and text tokens of a batch are, and each vision token's place in its picture."""
        input_ids = inputs["input_ids"]
        attention_mask = inputs.get("attention_mask")
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        vision = (input_ids == self.image_token_id) & attention_mask.bool()
        counts = vision.sum(-1).tolist()
        lengths = [len(picture) for picture in encoded.pictures] if encoded else counts
        grids = picture_grids(self.model.config, inputs, lengths, counts)
        return Layout(input_ids, attention_mask, vision, [grid.to(input_ids.device) for grid in grids])

    def positions(self, inputs: Mapping[str, Any], generating: bool) -> Tensor:
        """Position ids as the model itself would make them: `[B, S]`, or `[P, B, S]` for families with several axes.

        `generate` counts real tokens; a plain forward call of a one-axis family counts columns, padding included.
        """
        if inputs.get("position_ids") is not None:
            return inputs["position_ids"]
        batch, length = inputs["input_ids"].shape
        # Private, but the one place where every family's own positions (M-RoPE included) are made.
        made = self.model._prepare_position_ids_for_generation(inputs["input_ids"], dict(inputs))
        if made.ndim == 2 and not generating:
            made = torch.arange(length, device=made.device)[None] + facts(self.model.config).first_position
        return made.expand(*made.shape[:-2], batch, -1) if made.shape[-2] == 1 else made

    def embed_text(self, input_ids: Int64[Tensor, "*b L"]) -> Float[Tensor, "*b L D"]:
        """The LLM's own input embeddings of text tokens."""
        return self.model.get_input_embeddings()(input_ids)
