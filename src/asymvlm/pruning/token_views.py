"""Tokens of each sample of a batch as a method gets them; costly values on demand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import NoReturn

from torch import Tensor

from ..backbone import Backbone, Call
from ..backbone.tower.pixel_contrast import token_contrast
from ..backbone.tower.projector import Project, projector_of
from ..backbone.tower.resolution import downsampled_features
from ..backbone.tower.watch import TowerView
from ..methods.base import LayerView, Tokens
from ..targets.attention import AttentionTarget
from ..typing import Float


def sample_tokens(backbone: Backbone, call: Call) -> Iterator[Tokens]:
    """Yield `Tokens` per sample, in order, as they stand before the LLM."""
    cut, layout = TokenViews(backbone, call), call.layout
    for sample, count in enumerate(layout.counts()):
        rows = call.encoded.rows[cut.starts[sample] : cut.starts[sample] + count]
        text = backbone.embed_text(layout.input_ids[sample][layout.text[sample]])
        yield cut(sample, rows, text, slice(None), _before_the_llm)


def _before_the_llm() -> NoReturn:
    raise ValueError(
        "tokens.below: this method acts before the LLM; one that asks for an LLM layer says before "
        "which (`layer = 2`)"
    )


class TokenViews:
    """Makes `Tokens` of one batch; values of the dense model are computed once per batch."""

    def __init__(self, backbone: Backbone, call: Call) -> None:
        self.backbone, self.encoded, self.layout = backbone, call.encoded, call.layout
        # Inside `generate` its own settings stand beside the model's inputs; labels are for the
        # caller's forward pass.
        self.inputs = {
            name: value
            for name, value in call.inputs.items()
            if (name == "mm_encoder_outputs" and value)
            or (isinstance(value, Tensor) and name != "labels")
        }
        counts = call.layout.counts()
        self.starts = [sum(counts[:sample]) for sample in range(len(counts))]
        self._dense_attention: dict[str, list[Tensor]] = {}

    def __call__(
        self,
        sample: int,
        vision: Float[Tensor, "n D"],
        text: Float[Tensor, "L D"],
        left: slice | Tensor,
        below: Callable[[], LayerView],
    ) -> Tokens:
        """Make the tokens of one sample; `left` selects its remaining vision tokens."""
        layout = self.layout
        own = slice(self.starts[sample], self.starts[sample] + layout.counts()[sample])
        is_text = layout.text[sample]
        return Tokens(
            vision=vision,
            text=text,
            text_ids=layout.input_ids[sample][is_text],
            question=layout.question[sample][is_text],
            grid=layout.grids[sample][left],
            tower=lambda: self.tower.of(own).of(left),
            pixel_contrast=lambda: self.pixel_contrast[own][left],
            dense_attention=lambda rows: self.dense_attention(rows)[sample][left],
            at_resolution=lambda down, across: self.downsampled(sample, down, across),
            below=below,
            template=(layout.after_pictures & ~layout.question)[sample][is_text],
            projector=lambda: self.projector,
            llm_inputs=lambda: (
                self.encoded.rows[own],
                self.backbone.embed_text(layout.input_ids[sample][is_text]),
            ),
        )

    def final_norm(self, states: Float[Tensor, "n D"]) -> Float[Tensor, "n D"]:
        """Apply the norm behind the LLM's last layer; leave states as they are without one."""
        norm = getattr(self.backbone.decoder, "norm", None)
        return states if norm is None else norm(states)

    @cached_property
    def tower(self) -> TowerView:
        encoded = (
            self.encoded
            if self.encoded.tower is not None
            else self.backbone.encode(self.inputs, watch_tower=True)
        )
        assert encoded.tower is not None
        return encoded.tower

    @cached_property
    def projector(self) -> Project | None:
        return projector_of(self.backbone.model, self.tower.states, self.encoded.rows)

    @cached_property
    def pixel_contrast(self) -> Float[Tensor, "T"]:
        return token_contrast(self.backbone.model, self.inputs, len(self.encoded.rows))

    def dense_attention(self, kind: str) -> list[Tensor]:
        if kind not in self._dense_attention:
            target = AttentionTarget(rows=kind)
            call = Call(self.inputs, self.encoded, self.layout)
            self._dense_attention[kind] = target.of_prompt(self.backbone, call)
        return self._dense_attention[kind]

    def downsampled(self, sample: int, down: int, across: int) -> Tensor:
        arguments = self.backbone.picture_arguments(self.inputs)
        return downsampled_features(self.backbone.model, arguments, sample, down, across)
