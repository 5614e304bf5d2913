"""Logits of the right answer when some vision tokens are dropped or gated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..backbone import Backbone, Call, Kept
from ..backbone.gated import ColumnGate
from ..backbone.teacher_forcing import append_answers, check_left_padded
from ..engine import attends_through_stages
from ..errors import DataError
from ..targets import EncodedBatch
from ..typing import Float, Int64

GATE_MODES = ("mask", "scale")


def answer_logits(
    backbone: Backbone, batch: EncodedBatch, kept: Sequence[Int64[Tensor, "k"]] | None = None
) -> Float[Tensor, "B A V"]:
    """Compute the answers' logits with the `kept` vision tokens in the prompt; all if left out.

    Row a of a sample gives its answer's token a; rows behind its last token mean nothing. Raises
    ValueError for prompts with padding behind them.
    """
    return _logits(backbone, batch, [Kept(item) for item in kept or _all(batch)])


def gated_answer_logits(
    backbone: Backbone,
    batch: EncodedBatch,
    log_gates: Sequence[Float[Tensor, "n"]],
    gate_mode: str = "mask",
) -> Float[Tensor, "B A V"]:
    """Compute the answers' logits with every vision token behind a gate; gradients reach gates.

    Gates lie in [0, 1].

    `gate_mode`: "mask" adds the logarithm to what every row's attention sees of the token, in all
    layers: a shut gate is a dropped token. "scale" multiplies the token by its gate: a shut gate is
    a token of zeros, which still takes its share of the attention.
    """
    if gate_mode not in GATE_MODES:
        raise ValueError(f"gate_mode: {gate_mode!r} is not one of {', '.join(GATE_MODES)}")
    if not bool(batch.layout.vision.any()):
        raise DataError(
            f"backbone: {type(backbone.model).__name__} has no vision tokens in its sequence that "
            "gates could stand before; train by attention (configs/any.yaml), or take a family "
            "whose pictures are rows of the prompt (docs/families.md)"
        )
    if gate_mode == "scale":
        parts = batch.encoded.rows.split(batch.layout.counts())
        closer = [
            part * gates.exp()[:, None].to(part)
            for part, gates in zip(parts, log_gates, strict=True)
        ]
        return _logits(
            backbone,
            batch,
            [Kept(index, features) for index, features in zip(_all(batch), closer, strict=True)],
        )
    bias = torch.zeros(batch.layout.vision.shape, device=backbone.device)
    bias = bias.masked_scatter(batch.layout.vision, torch.cat(list(log_gates)).to(bias))
    return _logits(backbone, batch, [Kept(index) for index in _all(batch)], bias)


def _all(batch: EncodedBatch) -> list[Int64[Tensor, "n"]]:
    return [
        torch.arange(count, device=batch.layout.vision.device) for count in batch.layout.counts()
    ]


def _logits(
    backbone: Backbone,
    batch: EncodedBatch,
    kept: list[Kept],
    bias: Float[Tensor, "B S"] | None = None,
) -> Float[Tensor, "B A V"]:
    check_left_padded(batch.layout)
    model: Any = backbone.model
    inputs = {name: value for name, value in batch.inputs.items() if name != "labels"}
    dropped = backbone.drop(Call(inputs, batch.encoded, batch.layout, kept), generating=True)
    call, tail_mask = append_answers(backbone, dropped, [ids[:-1] for ids in batch.answer_ids])
    arguments = {**call, "use_cache": False, "logits_to_keep": tail_mask.shape[1] + 1}
    if bias is None:
        return model(**arguments).logits
    gate = ColumnGate(torch.nn.functional.pad(bias, (0, tail_mask.shape[1])))
    with attends_through_stages(model):
        return model(**arguments, attention_stage=gate).logits
