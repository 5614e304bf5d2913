"""Cutting a batch into what a method sees of each sample; costly things are worked out when first asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

from torch import Tensor

from .backbone import Backbone, Encoded, Layout
from .backbone.tower import downsampled_features
from .methods.base import Tokens
from .targets.attention import AttentionTarget


def sample_tokens(backbone: Backbone, inputs: Mapping[str, Any], encoded: Encoded, layout: Layout) -> Iterator[Tokens]:
    """One `Tokens` per sample, in order."""
    shared = _OnDemand(backbone, inputs, encoded, layout)
    start = 0
    for sample, count in enumerate(layout.counts()):
        rows = slice(start, start + count)
        ids = layout.input_ids[sample][layout.text[sample]]
        yield Tokens(
            vision=encoded.rows[rows],
            text=backbone.embed_text(ids),
            text_ids=ids,
            grid=layout.grids[sample],
            vision_attention=lambda rows=rows: shared.tower[rows],  # type: ignore[misc]
            relevance=lambda kind, sample=sample: shared.relevance(kind)[sample],  # type: ignore[misc]
            at_resolution=lambda down, across, sample=sample: shared.downsampled(sample, down, across),  # type: ignore[misc]
        )
        start += count


class _OnDemand:
    """What some methods ask of the dense model, once per batch."""

    def __init__(self, backbone: Backbone, inputs: Mapping[str, Any], encoded: Encoded, layout: Layout) -> None:
        self.backbone, self.encoded, self.layout = backbone, encoded, layout
        # Inside `generate` its own settings stand beside the model's inputs; labels are for the caller's forward pass.
        self.inputs = {name: value for name, value in inputs.items() if isinstance(value, Tensor) and name != "labels"}
        self._relevance: dict[str, list[Tensor]] = {}

    @cached_property
    def tower(self) -> Tensor:
        encoded = self.encoded if self.encoded.received is not None else self.backbone.encode(self.inputs, watch_tower=True)
        assert encoded.received is not None
        return encoded.received

    def relevance(self, kind: str) -> list[Tensor]:
        if kind not in self._relevance:
            target = AttentionTarget(rows=kind)
            self._relevance[kind] = target.of_prompt(self.backbone, self.inputs, self.encoded, self.layout)
        return self._relevance[kind]

    def downsampled(self, sample: int, down: int, across: int) -> Tensor:
        arguments = self.backbone.picture_arguments(self.inputs)
        return downsampled_features(self.backbone.model, arguments, sample, down, across)
