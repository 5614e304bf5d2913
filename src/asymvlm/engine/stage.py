"""Stages: changes of a model's calls, without hooks of their own."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from .attention_inputs import Attend, AttentionInputs
from .prompt_columns import PromptColumns
from .pruned_cache import PromptState


@dataclass
class GenerateCall:
    """One call of `generate`: its arguments by name, and what is known when its prefill runs."""

    arguments: dict[str, Any]
    configs: tuple[Any, ...]  # generation configurations that hold where an argument does not
    # Set by the stage that encoded the prompt, taken by the prefill.
    prompt: Any = None
    attention_mask: Tensor | None = None  # [B, S], as the caller gave it
    counted: bool = False  # whether its prompt is in a report already

    def disable_compile(self) -> None:
        """Have `generate` run as it is written: a compiled forward pass does not see hooks."""
        given = self.arguments.get("generation_config")
        if given is None:
            self.arguments["disable_compile"] = True
            return
        self.arguments["generation_config"] = given = copy.copy(given)
        given.disable_compile = True

    def mask(self) -> Tensor | None:
        """Find the prompt's mask, as `generate` infers it from padding where it is left out."""
        ids, pad = self.arguments.get("input_ids"), self.setting("pad_token_id")
        given = self.arguments.get("attention_mask")
        if given is not None or ids is None or pad is None:
            return given
        ends = self.setting("eos_token_id")
        ends = [] if ends is None else torch.as_tensor(ends).flatten().tolist()
        return None if int(pad) in ends else ids.ne(int(pad)).long()

    def setting(self, name: str) -> Any:
        """Look up a setting of `generate`: an argument, or what the configurations say."""
        given = [self.arguments.get(name), *(getattr(item, name, None) for item in self.configs)]
        return next((value for value in given if value is not None), None)


@dataclass
class ForwardPass:
    """One forward pass of the module that reads the prompt."""

    inputs: dict[str, Any]  # arguments by name; stages replace what they change
    stages: list[Stage]
    call: GenerateCall | None = None  # the call of `generate` that it belongs to
    ids: Tensor | None = None  # [B, q], token ids of what the LLM reads
    cache: Any = None
    # What a prompt that is pruned in this pass has left; empty where nothing is.
    columns: list[PromptColumns] = field(default_factory=list)
    # Mask `[B, T]` and positions `[*, B, T]` of that whole prompt, and its length S: tokens that
    # `generate` guesses may follow.
    prompt_length: int = 0
    prompt_mask: Tensor | None = None
    positions: Tensor | None = None
    # What a family has to know of each row in later steps.
    family: tuple[Tensor, ...] = ()
    # What the cache knows of the pruned prompt that this pass goes on from.
    state: PromptState | None = None
    as_tuple: bool = False  # whether the caller asked for a tuple
    # What a stage has to remember until the pass is over.
    own: dict[Any, Any] = field(default_factory=dict)

    def columns_at(self, layer: int) -> PromptColumns | None:
        """Find what a layer reads of the columns that the LLM was given; None where it is all."""
        found = [item for item in self.columns if 0 < item.layer <= layer]
        return found[-1] if found else None

    def attend(self, next_attention: Attend, given: AttentionInputs) -> tuple[Tensor, Any]:
        """Pass a layer's attention through the stages, the last of them first."""
        for stage in self.stages:
            next_attention = partial(stage.attend, self, next_attention)
        return next_attention(given)


class Stage:
    """A change of a model's calls; its state belongs to a call or to a cache."""

    # Stages of lower order come first, whichever was opened first.
    order: ClassVar[int]
    # What `open` is called in messages.
    name: ClassVar[str]
    # Which of "layers" and "attention" it needs beside `generate` and the forward pass.
    needs: ClassVar[frozenset[str]] = frozenset()
    # Whether the model was called at all, refused calls included.
    called: bool = False

    def check_generate(self, call: GenerateCall) -> None:
        """Refuse what cannot be done right, before any work."""

    def begin_generate(self, call: GenerateCall) -> None:
        """Change a call of `generate`."""

    def check_model_call(self, arguments: Mapping[str, Any]) -> None:
        """Refuse a call of the whole model that cannot be done right, before any work."""

    def before_entry(self, call: GenerateCall) -> None:
        """Change a call of a model that merges the pictures itself, before its reader runs."""

    def before_forward(self, forward: ForwardPass) -> None:
        """Change a forward pass."""

    def failed(self, forward: ForwardPass) -> None:
        """Take back what was announced for a forward pass that raised."""

    def passed_by(self) -> None:
        """Note a pass of the decoder alone, whose prompt was not seen."""

    def after_forward(self, forward: ForwardPass, output: Any) -> None:
        """Bring an output into the caller's columns, in place."""

    def before_layer(
        self, forward: ForwardPass, layer: int, hidden: Tensor, kwargs: Mapping[str, Any]
    ) -> tuple[Tensor, Mapping[str, Any]]:
        """Change what a decoder layer reads."""
        return hidden, kwargs

    def after_layers(self, forward: ForwardPass, hidden: Tensor) -> Tensor:
        """Change what the last decoder layer gives."""
        return hidden

    def attend(
        self, forward: ForwardPass, next_attention: Attend, given: AttentionInputs
    ) -> tuple[Tensor, Any]:
        """Compute a layer's attention, by `next_attention` or otherwise."""
        return next_attention(given)
