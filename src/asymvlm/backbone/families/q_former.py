"""BLIP-2 and InstructBLIP, whose `generate` encodes the pictures by itself."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from ...errors import DataError
from ..backbone import Backbone
from ..layout import Encoded, Kept, Layout


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

    def drop(
        self,
        inputs: dict[str, Any],
        encoded: Encoded,
        layout: Layout,
        kept: list[Kept],
        generating: bool,
    ) -> dict[str, Any]:
        return super().drop(inputs, encoded, layout, kept, generating) | self._required

    def with_pictures(self, inputs: Mapping[str, Any], encoded: Encoded) -> dict[str, Any]:
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

    def generate(self, original: Any, *args: Any, **pruned: Any) -> Any:
        encoded = pruned.pop("mm_encoder_outputs", None)
        if encoded is None:
            return original(*args, **pruned)
        pruned = {name: value for name, value in pruned.items() if name not in self._required}
        ids = pruned["input_ids"]
        features = encoded["image"].pooler_output
        embeds = self.embed_text(ids)
        embeds = embeds.masked_scatter((self._kinds(ids) >= 0)[..., None], features.to(embeds))
        return self.model.language_model.generate(inputs_embeds=embeds, **pruned)
