"""Prune inside the LLM: layers from a method's on see fewer vision tokens.

The model is not changed. Hooks on its decoder layers cut the states, the mask and the position
embeddings of the prefill, and pick the same columns out of the mask of every later step; the cache
then holds fewer entries in the layers above.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor, nn
from transformers import DynamicCache

from ..backbone import Backbone, Kept
from ..backbone.attention_recorder import recording
from ..methods import Method
from ..methods.base import Tokens
from ..selectors import Keep, count_for
from .layer_pruner import LayerPruner
from .report import PruneReport
from .select import select_tokens
from .token_views import TokenViews


class InLLM:
    """Prunes the calls of one model before an LLM layer.

    Raises ValueError where the decoder cannot be cut.
    """

    def __init__(self, backbone: Backbone, method: Method, keep: Keep) -> None:
        if isinstance(keep, str):
            raise ValueError(
                f"keep: {keep!r} is for methods before the LLM; {type(method).__name__} acts "
                "inside, give a share or a count"
            )
        _check_decoder(backbone, method)
        self.backbone, self.method, self.keep = backbone, method, keep
        self.report = PruneReport()
        self._running: LayerPruner | None = None  # that of the call under way
        # By the cache that they left behind.
        self._cuts: WeakKeyDictionary[Any, LayerPruner] = WeakKeyDictionary()
        # The prompts of a `generate` whose prefill is still to come.
        self._generating: TokenViews | None = None

    @contextmanager
    def open(self) -> Iterator[None]:
        """Prune calls of the model while open."""
        model: Any = self.backbone.model
        layers = self.backbone.decoder.layers
        generate = model.generate
        with ExitStack() as stack:
            stack.enter_context(self.backbone.ready())
            stack.enter_context(recording(model))
            handles = [model.register_forward_pre_hook(self.before_forward, with_kwargs=True)]
            handles += [
                layer.register_forward_pre_hook(
                    functools.partial(self._before_layer, number), with_kwargs=True
                )
                for number, layer in enumerate(layers)
            ]
            handles.append(layers[-1].register_forward_hook(self._after_last))
            for handle in handles:
                stack.callback(handle.remove)
            model.generate = functools.partial(self.generate, generate)
            stack.callback(delattr, model, "generate")
            yield

    def generate(
        self, original: Any, inputs: Tensor | None = None, *args: Any, **kwargs: Any
    ) -> Any:
        """Generate with a cache that holds different numbers of entries in different layers."""
        if inputs is not None:
            kwargs["input_ids"] = inputs
        if kwargs.get("use_cache") is False:
            raise ValueError(
                "use_cache: False cannot be combined with pruning in generate; leave it out"
            )
        if kwargs.get("cache_implementation") not in (None, "dynamic"):
            name = type(self.method).__name__
            raise ValueError(
                f"cache_implementation: {kwargs['cache_implementation']!r} has one length for all "
                f"layers, and {name} acts inside the LLM; "
                "leave it out"
            )
        if not self.backbone.brings_pictures(kwargs):
            return original(*args, **kwargs)
        self._generating = self._encode(kwargs)
        return original(*args, **self._encoded_call(kwargs, self._generating, generating=True))

    def before_forward(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Begin a new prefill in a call that brings pixels; a forward pre-hook of the model."""
        inputs = dict(zip(self.backbone.forward_names, args, strict=False)) | kwargs
        cache, prompts = inputs.get("past_key_values"), self._generating
        self._generating = None
        if prompts is None and self.backbone.brings_pictures(inputs):
            prompts = self._encode(inputs)
            args, kwargs = (), self._encoded_call(inputs, prompts, generating=False)
        if prompts is None:
            self._running = None if cache is None else self._cuts.get(cache)
            self.report.text_only += self._running is None
            return args, kwargs
        if cache is not None:
            _check_cache(cache)
        plans = [self._plan(count, _added_again(prompts)) for count in prompts.layout.counts()]
        copies = len(inputs["input_ids"]) // len(plans)
        self._running = LayerPruner(prompts, plans, copies, self._select)
        return args, {**kwargs, "attention_recorder": self._running}

    def _encode(self, inputs: dict[str, Any]) -> TokenViews:
        encoded = self.backbone.encode(inputs, self.method.reads_tower)
        return TokenViews(self.backbone, inputs, encoded, self.backbone.layout(inputs, encoded))

    def _encoded_call(
        self, inputs: dict[str, Any], prompts: TokenViews, generating: bool
    ) -> dict[str, Any]:
        """Build the same call with encoded pictures and with their positions."""
        positions = self.backbone.positions(inputs, generating)
        return {**self.backbone.with_pictures(inputs, prompts.encoded), "position_ids": positions}

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
        return select_tokens(self.method, count, tokens)

    def _before_layer(
        self, number: int, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple, dict] | None:
        if self._running is None:
            return None
        if kwargs.get("past_key_values") is not None:
            self._cuts[kwargs["past_key_values"]] = self._running
        hidden = args[0] if args else kwargs["hidden_states"]
        hidden, changed = self._running.before(number, hidden, kwargs)
        return (
            ((hidden, *args[1:]), changed) if args else ((), {**changed, "hidden_states": hidden})
        )

    def _after_last(self, module: nn.Module, args: Any, out: Any) -> Any:
        if self._running is None:
            return None
        prefill = not self._running.done
        full = self._running.after_last(out)
        if prefill:
            self.report.note(
                self._running.views.layout.grids, self._running.kept, self._running.plans
            )
        return full


def _check_cache(cache: Any) -> None:
    if int(cache.get_seq_length()) > 0:
        raise ValueError(
            "past_key_values: pictures cannot follow a prefill pruned inside the LLM; start "
            "anew with all of them"
        )
    if not isinstance(cache, DynamicCache):
        raise ValueError(
            f"past_key_values: {type(cache).__name__} has one length for all layers; leave it "
            "out for a DynamicCache"
        )


def _added_again(prompts: TokenViews) -> int:
    """Count the first LLM layers that vision features are added to ("deepstack"), at least 1."""
    return max(
        [
            1,
            *(
                len(getattr(output, "deepstack_features", None) or ())
                for output in prompts.encoded.output.values()
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
