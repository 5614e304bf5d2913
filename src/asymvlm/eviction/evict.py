"""`with asymvlm.evict(model, policy, text_budget=256)`: cap the text entries of the KV cache."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from ..backbone import Backbone, backbone_of
from ..engine import Attend, AttentionInputs, ForwardPass, GenerateCall, ModelHooks, Stage
from ..typing import Bool
from .attention import attention_of_newest
from .base import Evictor
from .budget import budget_for
from .cache import EvictingLayer, make_evicting
from .checks import check_generation, full_attention_layers
from .new_tokens import NewTokens, new_tokens
from .policies.linear import LinearEvictor
from .policies.threshold import Threshold
from .report import EvictionCall, EvictionReport, LayerCounts


@contextmanager
def evict(
    model: PreTrainedModel,
    policy: Evictor | str | Path | None = None,
    text_budget: int = 256,
    vision_budget: int | None = None,
) -> Iterator[EvictionReport]:
    """Keep at most `text_budget` text entries per row in every full-attention layer, while open.

    A path as `policy` is that of a learned rule, as `asymvlm.training.fit_eviction` fits it to the
    model: of all, it loses least. Without one it is AsymVLM's threshold, which loses least at half
    of the text of those that nobody has to fit (README, "Evict text from the KV cache").

    Vision entries stay, unless `vision_budget` limits them under the same policy (AsymVLM's second
    half, arXiv 2605.29535). A prompt is read in full before it is cut down. Sliding layers are as
    they always are. Goes together with `asymvlm.prune` in either order; below the budget nothing
    changes. A cache that is kept can be gone on with in here, and nowhere else. The LLM attends by
    SDPA.

    Raises ValueError for a bad policy or budget, DataError for a model without full self-attention
    over its vision tokens. Warns if the model was not called with a cache.
    """
    backbone = backbone_of(model)
    stage = EvictStage(backbone, _policy(policy), text_budget, vision_budget)
    with ModelHooks.opened(backbone, stage):
        yield stage.report
    if not stage.report.calls:
        warnings.warn(
            "asymvlm.evict: the model was not called with a cache inside the context, so nothing "
            "was evicted",
            stacklevel=3,
        )


def _policy(given: Evictor | str | Path | None) -> Evictor:
    if given is None:
        return Threshold()
    if isinstance(given, Evictor):
        return given
    if isinstance(given, str | Path) and Path(given).is_file():
        return LinearEvictor(given)
    raise ValueError(
        f"policy: {given!r} is neither an asymvlm.Evictor nor the file of a learned one; give an "
        "object, asymvlm.evictors() has the "
        "built-in ones, or fit a rule: python -m asymvlm.training.fit_eviction"
    )


class EvictStage(Stage):
    """Evicts from the caches of one model."""

    name = "evict"
    order = 30
    needs = frozenset({"attention"})

    def __init__(
        self, backbone: Backbone, policy: Evictor, text_budget: int, vision_budget: int | None
    ) -> None:
        self.backbone, self.policy = backbone, policy
        self.budget = budget_for(policy, text_budget, vision_budget)
        policy.check(backbone.model)
        self.report = EvictionReport()
        self._layers = full_attention_layers(backbone)
        # Caches that the report tells of.
        self._known: WeakKeyDictionary[Any, LayerCounts] = WeakKeyDictionary()

    @property
    def _config(self) -> Any:
        return self.backbone.model.config.get_text_config()

    def check_generate(self, call: GenerateCall) -> None:
        check_generation(call)

    def before_forward(self, forward: ForwardPass) -> None:
        """Prepare the cache of a call."""
        if forward.cache is None:
            use_cache = forward.inputs.get("use_cache")
            if not (self._config.use_cache if use_cache is None else use_cache):
                return
            forward.cache = DynamicCache(config=self._config)
        self._prepare(forward.cache)
        new = self._read(forward)
        forward.own[self] = dict.fromkeys(self._layers, new)
        for number in self._layers:
            forward.cache.layers[number].expect()
        forward.inputs["past_key_values"] = forward.cache

    def failed(self, forward: ForwardPass) -> None:
        """Forget that the cache was to be updated."""
        if self in forward.own:
            for number in self._layers:
                forward.cache.layers[number].expect(False)

    def _prepare(self, cache: Any) -> None:
        """Let a cache evict, and report on it."""
        make_evicting(cache, self._config, self._layers, type(self.policy).__name__)
        counts = cache.layers[self._layers[0]].counts
        if self._known.get(cache) is not counts:
            self._known[cache] = counts
            layers = {number: cache.layers[number].counts for number in self._layers}
            self.report.calls.append(EvictionCall(layers))

    def _read(self, forward: ForwardPass) -> NewTokens:
        """Find which of the new tokens are real, and which are text."""
        ids, cache = forward.ids, forward.cache
        if ids is None:
            raise ValueError(
                "inputs_embeds: text and vision look alike in there; give input_ids and "
                "pixel_values to asymvlm.evict"
            )
        entries = cache.layers[self._layers[0]].entries
        before = 0 if entries is None else entries.text_position.amax(-1, keepdim=True) + 1
        vision = torch.zeros_like(ids, dtype=torch.bool) if ids.shape[1] == 1 else self._vision(ids)
        return new_tokens(self._mask(forward), vision, before)

    def _mask(self, forward: ForwardPass) -> Tensor:
        """Find the mask of what the LLM has read and reads, without columns that were dropped."""
        ids, mask = forward.ids, forward.inputs.get("attention_mask")
        assert ids is not None
        seen, new = int(forward.cache.get_seq_length()), ids.shape[1]
        if forward.state is not None:
            dropped = forward.state.dropped()
            if mask is None or not forward.state.has_gaps:
                return forward.state.fitted_mask(mask, seen, new)
            return mask[:, dropped:]
        if mask is None:
            return ids.new_ones(len(ids), seen + new)
        if mask.shape != (len(ids), seen + new):
            raise ValueError(
                f"attention_mask: {tuple(mask.shape)} must be {(len(ids), seen + new)}, [batch, "
                "tokens seen and new]"
            )
        return mask

    def _vision(self, ids: Tensor) -> Bool[Tensor, "B q"]:
        placeholders = [modality.token_id for modality in self.backbone.modalities]
        return torch.isin(ids, torch.tensor(placeholders, device=ids.device))

    def attend(
        self, forward: ForwardPass, next_attention: Attend, given: AttentionInputs
    ) -> tuple[Tensor, Any]:
        """Attend, then update and evict the layer's entries."""
        index: Any = given.module.layer_idx
        new: NewTokens | None = forward.own.get(self, {}).get(index)
        if new is None:
            return next_attention(given)
        columns = forward.columns_at(index)
        if columns is not None and forward.state is None:
            # A prompt that is pruned inside the LLM: this layer reads fewer columns.
            new = new.cut(columns.index, columns.real)
        layer: Any = forward.cache.layers[index]
        given = replace(given, mask=layer.register(new, self.policy, given.mask))
        out = next_attention(given)
        if self.policy.rows:
            self._observe(layer, new, attention_of_newest(given, new.real, self.policy.rows))
        layer.evict(new, self.policy, self.budget)
        return out

    def _observe(self, layer: EvictingLayer, new: NewTokens, attention: Iterator[Tensor]) -> None:
        entries = layer.entries
        assert entries is not None
        score, before = entries.score, entries.attention_window
        for rows in attention:
            self.policy.update(entries, rows)
        if min(new.counts) == 0:  # rows that padding alone was added to have seen nothing
            real = new.real.any(-1, keepdim=True)
            entries.score = torch.where(real, entries.score, score)
            entries.attention_window = torch.where(
                real[..., None], entries.attention_window, before
            )
