"""Importance from the frozen teacher's attention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..backbone import Backbone, Call
from ..backbone.teacher_forcing import append_answers, check_left_padded
from ..engine import dense
from ..limits import check_above, check_named, check_one_of
from ..typing import Float
from .base import EncodedBatch, Target, normalised

ROWS = ("question", "last", "answer")


class AttentionTarget(Target):
    """Attention from chosen prompt rows to the vision tokens, mean over rows, heads and layers.

    `rows`: "question" (`Layout.question`: its tokens, template and special ones left out where they
    are known), "last" (the last prompt row, which gives the first answer token), "answer" (that row
    and those of the teacher-forced answer but its last token). `layers`: which decoder layers,
    negative ones from the end; None takes all. Layers above the deepest wanted one do not run.
    `heads`: "mean" or "max". `sharpen` raises the distribution to a power: above 1 it forgets the
    diffuse background.
    """

    def __init__(
        self,
        rows: str = "answer",
        layers: list[int] | None = None,
        heads: str = "mean",
        sharpen: float = 1.0,
    ) -> None:
        check_one_of(ROWS, {"rows": rows})
        check_one_of(("mean", "max"), {"heads": heads})
        check_named({"layers": layers})
        check_above(0, {"sharpen": sharpen})
        self.rows, self.layers, self.heads, self.sharpen = rows, layers, heads, sharpen

    def __call__(self, backbone: Backbone, batch: EncodedBatch) -> list[Float[Tensor, "n"]]:
        return [normalised(item**self.sharpen) for item in self._mass(backbone, batch)]

    def of_prompt(self, backbone: Backbone, call: Call) -> list[Float[Tensor, "n"]]:
        """Compute it without known answers: the model's own greedy ones are appended."""
        answers = dense_answers(backbone, call.inputs) if self.rows == "answer" else []
        batch = EncodedBatch(call.inputs, call.encoded, call.layout, call.layout.question, answers)
        return self._mass(backbone, batch)

    def _mass(self, backbone: Backbone, batch: EncodedBatch) -> list[Float[Tensor, "n"]]:
        call, rows = self._call(backbone, batch)
        layers = _layer_numbers(self.layers, backbone.attending_layers)
        return backbone.attention(call, batch.layout, rows, layers, self.heads)

    def _call(
        self, backbone: Backbone, batch: EncodedBatch
    ) -> tuple[dict[str, Any], Float[Tensor, "B S"]]:
        """Build the arguments of the forward pass and the weight of each query row."""
        inputs, layout = batch.inputs, batch.layout
        call = backbone.with_pictures(
            {name: value for name, value in inputs.items() if name != "labels"}, batch.encoded
        )
        call["attention_mask"] = layout.attention_mask
        call["position_ids"] = backbone.positions(inputs, generating=True)
        rows = torch.zeros(layout.input_ids.shape, device=layout.input_ids.device)
        if self.rows == "question":
            return call, rows + batch.text_mask
        last = layout.attention_mask.shape[1] - 1 - layout.attention_mask.flip(1).argmax(1)
        rows[torch.arange(len(rows)), last] = 1.0
        if self.rows == "last":
            return call, rows
        check_left_padded(layout)
        call, answer_mask = append_answers(backbone, call, [ids[:-1] for ids in batch.answer_ids])
        return call, torch.cat([rows, answer_mask.to(rows)], dim=-1)


def dense_answers(backbone: Backbone, inputs: Mapping[str, Any], longest: int = 16) -> list[Tensor]:
    """Generate the model's own greedy answers, as token ids without padding."""
    prompt = inputs["input_ids"].shape[1]
    model: Any = backbone.model
    with dense(model):
        output = backbone.generate(
            model.generate, **inputs, max_new_tokens=longest, do_sample=False
        )[:, prompt:]
    pad = backbone.model.generation_config.pad_token_id
    return [row[row != pad] for row in output]


def _layer_numbers(layers: list[int] | None, count: int) -> list[int]:
    if layers is None:
        return list(range(count))
    chosen = [layer + count if layer < 0 else layer for layer in layers]
    if not chosen or not all(0 <= layer < count for layer in chosen):
        raise ValueError(
            f"layers: {layers} must name at least one of the teacher's {count} layers (0 to "
            f"{count - 1}, or from the end)"
        )
    return chosen
