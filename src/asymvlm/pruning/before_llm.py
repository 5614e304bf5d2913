"""Prune before the LLM: the prompt loses the dropped tokens."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ..backbone import Backbone
from ..methods import Method
from ..selectors import Keep
from .conversation import CachedPrompt
from .report import PruneReport
from .select import select_batch

_KEPT_INPUTS = (
    "input_ids",
    "attention_mask",
    "position_ids",
    "token_type_ids",
    "mm_token_type_ids",
)


class BeforeLLM:
    """Prunes the calls of one model before its LLM."""

    def __init__(self, backbone: Backbone, method: Method, keep: Keep) -> None:
        self.backbone = backbone
        self.method = method
        self.keep = keep
        self.report = PruneReport()
        self._cached_prompt: CachedPrompt | None = None

    @contextmanager
    def open(self) -> Iterator[None]:
        """Prune calls of the model while open."""
        model: Any = self.backbone.model
        handle = model.register_forward_pre_hook(self.before_forward, with_kwargs=True)
        model.generate = functools.partial(self.generate, model.generate)
        try:
            with self.backbone.ready():
                yield
        finally:
            handle.remove()
            del model.generate

    def before_forward(
        self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple, dict]:
        """Prune a call that brings pixels, pass any other; a forward pre-hook."""
        inputs = dict(zip(self.backbone.forward_names, args, strict=False)) | kwargs
        if self.backbone.brings_pictures(inputs):
            return (), self._prune(inputs, generating=False)
        # Decoding steps, and prefills of our own `generate`, bring no pixels and are no calls of
        # their own.
        if inputs.get("mm_encoder_outputs") is None and inputs.get("past_key_values") is None:
            self.report.text_only += 1
        return args, kwargs

    def generate(
        self, original: Any, inputs: Tensor | None = None, *args: Any, **kwargs: Any
    ) -> Any:
        """Generate from the pruned prompt; what is returned starts with the original one."""
        if inputs is not None:
            kwargs["input_ids"] = inputs
        if self._cached_prompt is not None and self._cached_prompt.is_continued_by(kwargs):
            return self._further_turn(original, self._cached_prompt, *args, **kwargs)
        if not self.backbone.brings_pictures(kwargs):
            return original(*args, **kwargs)
        if kwargs.get("use_cache") is False:
            raise ValueError(
                "use_cache: False cannot be combined with pruning in generate; leave it out"
            )
        prompt = kwargs["input_ids"]
        pruned = self._prune(kwargs, generating=True)
        if "position_ids" in pruned:  # tokens have left the sequence
            self._cached_prompt = CachedPrompt(
                prompt, {name: pruned[name] for name in _KEPT_INPUTS if name in pruned}
            )
        return self._generate(self.backbone.generate, prompt, pruned, original, *args)

    def _further_turn(self, original: Any, cached: CachedPrompt, *args: Any, **kwargs: Any) -> Any:
        if self.backbone.brings_pictures(kwargs):
            raise ValueError(
                "past_key_values: a further turn on a pruned cache takes text alone; start anew "
                "with all pictures"
            )
        return self._generate(original, kwargs["input_ids"], cached.extend(kwargs), *args)

    def _generate(self, generate: Any, prompt: Tensor, pruned: dict[str, Any], *args: Any) -> Any:
        """Generate, and put the caller's prompt in front again."""
        length = pruned["input_ids"].shape[1]
        _shift_lengths(pruned, self.backbone.model.generation_config, prompt.shape[1] - length)
        result = generate(*args, **pruned)
        if isinstance(result, Tensor):
            return _with_prompt(result, prompt, length)
        result.sequences = _with_prompt(result.sequences, prompt, length)
        return result

    def _prune(self, inputs: dict[str, Any], generating: bool) -> dict[str, Any]:
        backbone = self.backbone
        encoded = backbone.encode(inputs, self.method.reads_tower)
        layout = backbone.layout(inputs, encoded)
        kept = select_batch(backbone, self.method, self.keep, inputs, encoded, layout)
        self.report.note(layout.grids, kept, [{0: len(choice.index)} for choice in kept])
        return backbone.drop(inputs, encoded, layout, kept, generating)


def _shift_lengths(arguments: dict[str, Any], default: Any, removed: int) -> None:
    """Lower `max_length` and `min_length`, which count the prompt, by what was pruned."""
    config = arguments.get("generation_config") or default
    for name, new in (("max_length", "max_new_tokens"), ("min_length", "min_new_tokens")):
        value = arguments.get(name, getattr(config, name, None))
        chosen = arguments.get(new, getattr(config, new, None))
        if value and chosen is None:
            arguments[name] = max(value - removed, 1 if name == "max_length" else 0)


def _with_prompt(sequences: Tensor, prompt: Tensor, length: int) -> Tensor:
    """Replace the pruned prompt in generated sequences by the original."""
    per_prompt = sequences.shape[0] // prompt.shape[0]
    return torch.cat([prompt.repeat_interleave(per_prompt, dim=0), sequences[:, length:]], dim=1)
