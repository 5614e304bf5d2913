"""Methods that act before the LLM: its prompt loses the dropped tokens, and the ordinary model runs on what is left."""

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
from .conversation import Turn
from .report import PruneReport
from .select import choose

_SEEN = ("input_ids", "attention_mask", "position_ids", "token_type_ids", "mm_token_type_ids")


class BeforeLLM:
    """Stands between the caller and one model."""

    def __init__(self, backbone: Backbone, method: Method, keep: Keep) -> None:
        self.backbone = backbone
        self.method = method
        self.keep = keep
        self.report = PruneReport()
        self._turn: Turn | None = None

    @contextmanager
    def open(self) -> Iterator[None]:
        """While open, calls of the model are pruned."""
        model: Any = self.backbone.model
        handle = model.register_forward_pre_hook(self.before_forward, with_kwargs=True)
        model.generate = functools.partial(self.generate, model.generate)
        try:
            with self.backbone.ready():
                yield
        finally:
            handle.remove()
            del model.generate

    def before_forward(self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple, dict]:
        """A forward pre-hook: prunes a call that brings pixels, passes any other."""
        inputs = dict(zip(self.backbone.forward_names, args, strict=False)) | kwargs
        if self.backbone.brings_pictures(inputs):
            return (), self._pruned(inputs, generating=False)
        # Decoding steps, and prefills of our own `generate`, bring no pixels and are no calls of their own.
        if inputs.get("mm_encoder_outputs") is None and inputs.get("past_key_values") is None:
            self.report.text_only += 1
        return args, kwargs

    def generate(self, original: Any, inputs: Tensor | None = None, *args: Any, **kwargs: Any) -> Any:
        """`generate` on the pruned prompt; what it returns starts with the original one."""
        if inputs is not None:
            kwargs["input_ids"] = inputs
        if self._turn is not None and self._turn.is_continued_by(kwargs):
            return self._further_turn(original, self._turn, *args, **kwargs)
        if not self.backbone.brings_pictures(kwargs):
            return original(*args, **kwargs)
        if kwargs.get("use_cache") is False:
            raise ValueError("use_cache: False cannot be combined with pruning in generate; leave it out")
        prompt = kwargs["input_ids"]
        pruned = self._pruned(kwargs, generating=True)
        if "position_ids" in pruned:  # tokens have left the sequence
            self._turn = Turn(prompt, {name: pruned[name] for name in _SEEN if name in pruned})
        return self._made(self.backbone.generate, prompt, pruned, original, *args)

    def _further_turn(self, original: Any, turn: Turn, *args: Any, **kwargs: Any) -> Any:
        if self.backbone.brings_pictures(kwargs):
            raise ValueError("past_key_values: a further turn on a pruned cache takes text alone; start anew with all pictures")
        return self._made(original, kwargs["input_ids"], turn.continued(kwargs), *args)

    def _made(self, generate: Any, prompt: Tensor, pruned: dict[str, Any], *args: Any) -> Any:
        """What `generate` makes of a pruned prompt, with the caller's prompt in front again."""
        length = pruned["input_ids"].shape[1]
        _shift_lengths(pruned, self.backbone.model.generation_config, prompt.shape[1] - length)
        result = generate(*args, **pruned)
        if isinstance(result, Tensor):
            return _with_prompt(result, prompt, length)
        result.sequences = _with_prompt(result.sequences, prompt, length)
        return result

    def _pruned(self, inputs: dict[str, Any], generating: bool) -> dict[str, Any]:
        backbone = self.backbone
        encoded = backbone.encode(inputs, self.method.reads_tower)
        layout = backbone.layout(inputs, encoded)
        kept = choose(backbone, self.method, self.keep, inputs, encoded, layout)
        self.report.note(layout.grids, kept, [{0: len(one.index)} for one in kept])
        return backbone.drop(inputs, encoded, layout, kept, generating)


def _shift_lengths(arguments: dict[str, Any], default: Any, removed: int) -> None:
    """`max_length` and `min_length` count the prompt: take off what was pruned, so that they count as the user meant."""
    config = arguments.get("generation_config") or default
    for name, new in (("max_length", "max_new_tokens"), ("min_length", "min_new_tokens")):
        value = arguments.get(name, getattr(config, name, None))
        chosen = arguments.get(new, getattr(config, new, None))
        if value and chosen is None:
            arguments[name] = max(value - removed, 1 if name == "max_length" else 0)


def _with_prompt(sequences: Tensor, prompt: Tensor, length: int) -> Tensor:
    """Generated sequences (several per prompt, perhaps) with the pruned prompt replaced by the original."""
    per_prompt = sequences.shape[0] // prompt.shape[0]
    return torch.cat([prompt.repeat_interleave(per_prompt, dim=0), sequences[:, length:]], dim=1)
