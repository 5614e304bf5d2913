"""`with asymvlm.evict(model, policy, text_budget=256)`: cap the text entries of the KV cache."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, DynamicCache, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from ..backbone import Backbone, backbone_of
from ..backbone.attention_functions import in_the_llm
from ..typing import Bool
from .attention import attention_of_newest
from .base import Evictor
from .budget import budget_for
from .cache import EvictingLayer, make_evicting
from .checks import checked_generation, full_attention_layers
from .new_tokens import NewTokens, new_tokens
from .policies.linear import LinearEvictor
from .policies.threshold import Threshold
from .report import EvictionCall, EvictionReport, Ledger

_NAME = "asymvlm_eviction"
_MARK = "_asymvlm_eviction"  # on attention modules, who evicts there


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
    evicting = Evicting(backbone_of(model), _policy(policy), text_budget, vision_budget)
    with evicting.open():
        yield evicting.report
    if not evicting.report.calls:
        warnings.warn(
            "asymvlm.evict: the model was not called with a cache inside the context, so nothing "
            "left",
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


class Evicting:
    """Evicts from the caches of one model."""

    def __init__(
        self, backbone: Backbone, policy: Evictor, text_budget: int, vision_budget: int | None
    ) -> None:
        self.backbone, self.policy = backbone, policy
        self.budget = budget_for(policy, text_budget, vision_budget)
        policy.check(backbone.model)
        self.report = EvictionReport()
        self._layers = full_attention_layers(backbone)
        # BLIP-2 and the like have no base model; their language model generates by itself, from
        # embeddings.
        base: Any = backbone.model.base_model
        self._reads_embeddings = base is backbone.model
        self._reader = base.language_model if self._reads_embeddings else base
        self._names = tuple(inspect.signature(self._reader.forward).parameters)
        self._embedded: Tensor | None = None  # ids that became embeddings last
        self._cache: DynamicCache | None = None  # of the call under way, if it evicts
        # Caches that the report tells of.
        self._known: WeakKeyDictionary[Any, Ledger] = WeakKeyDictionary()
        self._new: dict[int, NewTokens] = {}  # by layer, for this call
        self._attend: Callable[..., Any] = sdpa_attention_forward  # what ours is put around

    @contextmanager
    def open(self) -> Iterator[None]:
        """Evict in calls of the model with a cache, while open."""
        model: Any = self.backbone.model
        decoder = self.backbone.decoder
        modules = [module for module in decoder.modules() if hasattr(module, "layer_idx")]
        if any(hasattr(module, _MARK) for module in modules):
            raise ValueError("model: it is evicted from already; open one asymvlm.evict at a time")
        self._attend = _function(self._config._attn_implementation)
        with ExitStack() as stack:
            stack.enter_context(in_the_llm(model, _NAME, _attention))
            for module in modules:
                setattr(module, _MARK, self)
                stack.callback(delattr, module, _MARK)
            reader = self._reader
            handles = [
                reader.register_forward_pre_hook(self.before_forward, with_kwargs=True),
                reader.register_forward_hook(self._after_forward),
            ]
            if self._reads_embeddings:
                embed = model.get_input_embeddings()
                handles.append(embed.register_forward_pre_hook(self._before_embedding))
            for handle in handles:
                stack.callback(handle.remove)
            stack.enter_context(checked_generation(model))
            yield

    @property
    def _config(self) -> Any:
        return self.backbone.model.config.get_text_config()

    def before_forward(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[()], dict[str, Any]] | None:
        """Prepare the cache of a call; a forward pre-hook of the module that reads the prompt."""
        inputs = dict(zip(self._names, args, strict=False)) | kwargs
        cache = inputs.get("past_key_values")
        self._after_forward()
        if cache is None:
            use_cache = inputs.get("use_cache")
            if not (self._config.use_cache if use_cache is None else use_cache):
                return None
            cache = DynamicCache(config=self._config)
        self._prepare(cache)
        if self._config._attn_implementation != _NAME:  # `prune` was opened after this
            self._attend = _function(self._config._attn_implementation)
            self._config._attn_implementation = _NAME
        new = self._read(inputs, cache)
        self._cache, self._new = cache, dict.fromkeys(self._layers, new)
        for number in self._layers:
            cache.layers[number].expect()
        return (), {**inputs, "past_key_values": cache}

    def _after_forward(self, *_: Any) -> None:
        """Forget the call: its cache is the caller's to keep."""
        self._cache, self._new = None, {}

    def _prepare(self, cache: Any) -> None:
        """Let a cache evict, and report on it."""
        make_evicting(cache, self._config, self._layers, type(self.policy).__name__)
        ledger = cache.layers[self._layers[0]].ledger
        if self._known.get(cache) is not ledger:
            self._known[cache] = ledger
            ledgers = {number: cache.layers[number].ledger for number in self._layers}
            self.report.calls.append(EvictionCall(ledgers))

    def _read(self, inputs: Mapping[str, Any], cache: DynamicCache) -> NewTokens:
        """Find which of the new tokens are real, and which are text."""
        ids = (
            inputs["input_ids"]
            if inputs.get("input_ids") is not None
            else self._ids_of(inputs["inputs_embeds"])
        )
        past, new = int(cache.get_seq_length()), ids.shape[1]
        mask = inputs.get("attention_mask")
        if mask is None:
            mask = ids.new_ones(len(ids), past + new)
        if mask.shape != (len(ids), past + new):
            raise ValueError(
                f"attention_mask: {tuple(mask.shape)} must be {(len(ids), past + new)}, [batch, "
                "tokens seen and new]"
            )
        entries = cache.layers[self._layers[0]].entries
        before = 0 if entries is None else entries.text_position.amax(-1, keepdim=True) + 1
        return new_tokens(
            mask, self._vision(ids) if new > 1 else torch.zeros_like(ids, dtype=torch.bool), before
        )

    def _vision(self, ids: Tensor) -> Bool[Tensor, "B q"]:
        return torch.isin(
            ids,
            torch.tensor(
                [modality.token_id for modality in self.backbone.modalities], device=ids.device
            ),
        )

    def _before_embedding(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        self._embedded = args[0]

    def _ids_of(self, embeddings: Tensor) -> Tensor:
        """Find the ids behind embeddings, whose rows may be beams by now."""
        ids = self._embedded
        if ids is None or ids.shape[-1] != embeddings.shape[1] or len(embeddings) % len(ids):
            raise ValueError(
                "inputs_embeds: text and vision look alike in there; give input_ids and "
                "pixel_values to asymvlm.evict"
            )
        return ids.repeat_interleave(len(embeddings) // len(ids), dim=0)

    def attend(
        self,
        module: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        **kwargs: Any,
    ) -> tuple[Tensor, Any]:
        """Attend, then update and evict the layer's entries."""
        new = self._new.get(module.layer_idx)
        if new is None or self._cache is None:
            return self._attend(module, query, key, value, mask, **kwargs)
        # A prefill that is cut inside the LLM: this layer may read fewer columns.
        if kwargs.get("attention_recorder") is not None:
            stages = kwargs["attention_recorder"].stages
            stage = [stage for stage in stages if stage.layer <= module.layer_idx][-1]
            new = new.cut(stage.rows, stage.real)
        layer: Any = self._cache.layers[module.layer_idx]
        mask = layer.register(new, self.policy, mask)
        out = self._attend(module, query, key, value, mask, **kwargs)
        if self.policy.rows:
            rows, scaling = self.policy.rows, kwargs.get("scaling")
            attention = attention_of_newest(query, key, mask, new.real, rows, scaling)
            self._observe(layer, new, attention)
        layer.evict(new, self.policy, self.budget)
        return out

    def _observe(self, layer: EvictingLayer, new: NewTokens, attention: Iterator[Tensor]) -> None:
        entries = layer.entries
        assert entries is not None
        score, past = entries.score, entries.attention_window
        for rows in attention:
            self.policy.update(entries, rows)
        if min(new.counts) == 0:  # rows that padding alone was added to have seen nothing
            real = new.real.any(-1, keepdim=True)
            entries.score = torch.where(real, entries.score, score)
            entries.attention_window = torch.where(real[..., None], entries.attention_window, past)


def _attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **kwargs: Any,
) -> tuple[Tensor, Any]:
    evicting = getattr(module, _MARK, None)
    attend = sdpa_attention_forward if evicting is None else evicting.attend
    return attend(module, query, key, value, attention_mask, **kwargs)


def _function(name: str) -> Callable[..., Any]:
    """Find the attention function to wrap: another one of ours, or SDPA."""
    return (
        AttentionInterface._global_mapping[name]
        if name.startswith("asymvlm_")
        else sdpa_attention_forward
    )
