"""BLIP-2 and InstructBLIP, whose `generate` encodes the pictures by itself."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from ...engine import ForwardPass
from ...errors import DataError
from ...typing import Float
from ..backbone import Backbone
from ..layout import Call, EncodedPictures
from ..pruned_inputs import kept_columns, read_columns


class QFormer(Backbone):
    """Generates through the language model, from embeddings.

    Raises DataError for encoder-decoder language models.
    """

    model_types = ("blip-2", "instructblip")

    def _check(self) -> None:
        super()._check()
        if self.model.config.get_text_config().is_encoder_decoder:
            raise DataError(
                f"{type(self.model).__name__} with an encoder-decoder language model counts "
                "positions by itself: dropping tokens would "
                "move the others; use one with a decoder (OPT, Vicuna)"
            )

    @property
    def entry(self) -> nn.Module:
        return self.model

    @property
    def reader(self) -> nn.Module:
        return self.decoder

    def drop(self, call: Call, generating: bool) -> dict[str, Any]:
        return super().drop(call, generating) | self._required

    def with_pictures(self, inputs: Mapping[str, Any], encoded: EncodedPictures) -> dict[str, Any]:
        return super().with_pictures(inputs, encoded) | self._required

    @property
    def _required(self) -> dict[str, None]:
        """Arguments that `forward` requires even where the pictures come encoded."""
        parameters = inspect.signature(self.model.forward).parameters
        return {
            name: None
            for name in self.picture_names
            if name in parameters and parameters[name].default is inspect.Parameter.empty
        }

    def read_pruned(self, forward: ForwardPass, call: Call) -> None:
        inputs, copies = self._reading(forward, call)
        if call.drops:
            columns = kept_columns(call, copies, inputs["position_ids"].shape[-1])
            embeddings = columns.gather_states(self._with_fused(forward, call))
            inputs = read_columns(forward, inputs, columns, self.pad_token_id)
            forward.inputs = {**inputs, "inputs_embeds": embeddings}

    def _with_fused(self, forward: ForwardPass, call: Call) -> Float[Tensor, "B S D"]:
        """Put fused tokens in the place of those that are kept."""
        embeddings: Tensor = forward.inputs["inputs_embeds"]
        if all(choice.features is None for choice in call.kept):
            return embeddings
        embeddings = embeddings.clone()
        copies = len(embeddings) // len(call.kept)
        for row in range(len(embeddings)):
            choice = call.kept[row // copies]
            if choice.features is not None:
                places = call.layout.vision[row // copies].nonzero().squeeze(-1)[choice.index]
                embeddings[row, places] = choice.features.to(embeddings)
        return embeddings

    def generation_arguments(self, call: Call) -> dict[str, Any]:
        return super().generation_arguments(call) | {
            "mm_encoder_outputs": dict(call.encoded.output)
        }

    def generate(self, original: Callable[..., Any], **arguments: Any) -> Any:
        encoded = arguments.pop("mm_encoder_outputs", None)
        if not encoded:
            return original(**arguments)
        arguments = {key: item for key, item in arguments.items() if key not in self._required}
        ids = arguments["input_ids"]
        embeds = self.embed_text(ids)
        vision = self.placeholders(ids)[..., None]
        embeds = embeds.masked_scatter(vision, encoded["image"].pooler_output.to(embeds))
        return self.model.language_model.generate(inputs_embeds=embeds, **arguments)
