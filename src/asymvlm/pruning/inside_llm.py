"""Prune inside the LLM: layers from a method's on see fewer vision tokens.

The model is not changed. Its decoder layers are given fewer states, masks and position embeddings
in the prefill, and the same columns of the mask in every later step; the cache then holds fewer
entries in the layers above.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from ..backbone import Backbone, Call, Kept
from ..engine import Attend, AttentionInputs, ForwardPass, GenerateCall, dense
from ..methods import Method
from ..methods.base import Tokens
from ..selectors import Keep, count_for
from .layer_pruner import LayerPruner, step_mask
from .prune_stage import PruneStage
from .select import select_tokens
from .token_views import TokenViews


class InsideLLM(PruneStage):
    """Prunes the calls of one model before an LLM layer.

    Raises ValueError where the decoder cannot be cut.
    """

    order = 10
    needs = frozenset({"layers", "attention"})

    def __init__(self, backbone: Backbone, method: Method, keep: Keep) -> None:
        if isinstance(keep, str):
            raise ValueError(
                f"keep: {keep!r} is for methods before the LLM; {type(method).__name__} acts "
                "inside, give a share or a count"
            )
        _check_decoder(backbone, method)
        super().__init__(backbone, method, keep)

    def check_generate(self, call: GenerateCall) -> None:
        super().check_generate(call)
        kind = call.setting("cache_implementation")
        if kind not in (None, "dynamic"):
            name = type(self.method).__name__
            raise ValueError(
                f"cache_implementation: {kind!r} has one length for all layers, and {name} acts "
                "inside the LLM; leave it out"
            )

    def check_call(self, inputs: Mapping[str, Any]) -> None:
        super().check_call(inputs)
        cache = inputs.get("past_key_values")
        if cache is not None and not isinstance(cache, DynamicCache):
            raise ValueError(
                f"past_key_values: {type(cache).__name__} has one length for all layers; leave it "
                "out for a DynamicCache"
            )

    def encoded(self, inputs: Mapping[str, Any]) -> Call:
        call = super().encoded(inputs)
        device = call.layout.input_ids.device
        call.kept = [Kept(torch.arange(count, device=device)) for count in call.layout.counts()]
        return call

    def apply(self, forward: ForwardPass, call: Call) -> None:
        plans = [self._plan(count, _added_again(call)) for count in call.layout.counts()]
        self.backbone.read_pruned(forward, call)
        assert forward.prompt_mask is not None
        views = TokenViews(self.backbone, call)
        pruner = LayerPruner(views, plans, forward.prompt_mask, self._select)
        forward.own[self], forward.columns = pruner, pruner.columns

    def _plan(self, total: int, first: int) -> dict[int, int]:
        """Find the vision tokens left from each layer on; `first` is the first that may prune.

        Raises ValueError for layers below it, and for those that the LLM does not have.
        """
        if total == 0:
            return {}
        depth, name = len(self.backbone.decoder.layers), type(self.method).__name__
        count = count_for(self.keep, total)  # type: ignore[arg-type]
        plan = self.method.stages(count, total, depth)
        if not all(0 < layer < depth for layer in plan):
            raise ValueError(
                f"layer: {name} acts before layers {sorted(plan)}; this LLM has layers 1 to "
                f"{depth - 1} to act before"
            )
        if min(plan) < first:
            raise ValueError(
                f"layer: {name} acts before layer {min(plan)}; this LLM reads vision features "
                f"again below layer {first}"
            )
        return plan

    def _select(self, tokens: Tokens, count: int) -> Kept:
        with dense(self.backbone.model):
            return select_tokens(self.method, count, tokens)

    def before_layer(
        self, forward: ForwardPass, layer: int, hidden: Tensor, kwargs: Mapping[str, Any]
    ) -> tuple[Tensor, Mapping[str, Any]]:
        pruner: LayerPruner | None = forward.own.get(self)
        if pruner is not None:
            return pruner.before(layer, hidden, kwargs)
        columns, cache = forward.columns_at(layer), kwargs.get("past_key_values")
        if columns is None or cache is None:
            return hidden, kwargs
        cached = int(cache.layers[layer].get_seq_length())
        mask = step_mask(columns, kwargs.get("attention_mask"), hidden.shape[1], cached)
        return hidden, {**kwargs, "attention_mask": mask}

    def after_layers(self, forward: ForwardPass, hidden: Tensor) -> Tensor:
        pruner: LayerPruner | None = forward.own.get(self)
        if pruner is None:
            return hidden
        hidden = pruner.after_last(hidden)
        self.report.note(pruner.views.layout.grids, pruner.kept, pruner.plans)
        return hidden

    def attend(
        self, forward: ForwardPass, next_attention: Attend, given: AttentionInputs
    ) -> tuple[Tensor, Any]:
        pruner: LayerPruner | None = forward.own.get(self)
        if pruner is not None:
            pruner.record(given)
        return next_attention(given)


def _added_again(call: Call) -> int:
    """Count the first LLM layers that vision features are added to ("deepstack"), at least 1."""
    return max(
        [
            1,
            *(
                len(getattr(output, "deepstack_features", None) or ())
                for output in call.encoded.output.values()
            ),
        ]
    )


def _check_decoder(backbone: Backbone, method: Method) -> None:
    name, kind = type(method).__name__, type(backbone.model).__name__
    if type(backbone) is not Backbone:
        raise ValueError(
            f"{name} acts inside the LLM, where {kind} has no vision tokens to drop; choose a "
            "method before it"
        )
    decoder = backbone.decoder
    missing = {"attention_mask", "position_embeddings", "past_key_values"} - set(
        inspect.signature(decoder.layers[0].forward).parameters
    )
    other = sorted(set(getattr(decoder.config, "layer_types", None) or ()) - {"full_attention"})
    if missing or other:
        why = f"take no {', '.join(sorted(missing))}" if missing else f"are of type {other[0]}"
        raise ValueError(
            f"{name} acts inside decoders like those of Llama and Qwen2; layers of {kind} {why}: "
            "choose one before the LLM"
        )
