"""The common part of pruning before and inside the LLM: telling prompts from further steps."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..backbone import Backbone, Call
from ..backbone.family_spec import check_token_types
from ..engine import (
    ForwardPass,
    GenerateCall,
    PromptColumns,
    PromptState,
    Stage,
    always_masks,
    has_entries,
    is_left_padded,
    mark_pruned,
)
from ..methods import Method
from ..selectors import Keep
from .report import PruneReport


class PruneStage(Stage):
    """Prunes prompts with pictures, and fits the masks of what goes on from them."""

    name = "prune"

    def __init__(self, backbone: Backbone, method: Method, keep: Keep) -> None:
        self.backbone, self.method, self.keep = backbone, method, keep
        self.report = PruneReport()

    @abstractmethod
    def apply(self, forward: ForwardPass, call: Call) -> None:
        """Have a forward pass read the prompt of `call` pruned."""

    def check_generate(self, call: GenerateCall) -> None:
        if not self.backbone.brings_pictures(call.arguments):
            if not has_entries(call.arguments.get("past_key_values")):
                self._check_seen(call.arguments.get("input_ids"), call.arguments)
            return
        if call.setting("use_cache") is False:
            raise ValueError(
                "use_cache: False cannot be combined with pruning in generate; leave it out"
            )
        if call.setting("prefill_chunk_size") is not None:
            raise ValueError(
                f"prefill_chunk_size: {call.setting('prefill_chunk_size')} is not for pruned "
                "calls, since a prompt is pruned as a whole; leave it out"
            )
        self.check_call(call.arguments)
        mask = call.mask()
        if self.keep != 1.0 and isinstance(mask, Tensor) and not bool(mask[:, -1].all()):
            raise ValueError(
                "attention_mask: generate goes on from the last column, which is padding in some "
                "rows; pad prompts on the left"
            )

    def begin_generate(self, call: GenerateCall) -> None:
        if not self.backbone.brings_pictures(call.arguments):
            self._count(call.arguments.get("past_key_values"))
            call.counted = True
            return
        with torch.no_grad():
            call.prompt = self.encoded(call.arguments)
            call.arguments = self.backbone.generation_arguments(call.prompt)

    def check_model_call(self, arguments: Mapping[str, Any]) -> None:
        labels, ids = arguments.get("labels"), arguments.get("input_ids")
        if labels is None or ids is None or self.keep == 1.0:
            return
        behind = self.backbone.placeholders(ids)[:, :-1] & (labels[:, 1:] != -100).to(ids.device)
        if bool(behind.any()) and self.backbone.brings_pictures(arguments):
            raise ValueError(
                f"labels: {int(behind.sum())} of them are predicted by vision tokens, which may be "
                "dropped; set labels right behind and within pictures to -100"
            )

    def before_entry(self, call: GenerateCall) -> None:
        if not self.backbone.brings_pictures(call.arguments):
            return
        self.check_call(call.arguments)
        call.prompt = self.encoded(call.arguments)
        call.arguments = {
            **self.backbone.with_pictures(call.arguments, call.prompt.encoded),
            "position_ids": self.backbone.positions(call.arguments, generating=False),
        }

    def before_forward(self, forward: ForwardPass) -> None:
        prompt = self._prompt(forward)
        if prompt is not None:
            self.apply(forward, prompt)
        elif has_entries(forward.cache):
            self._go_on(forward)
        elif forward.call is None or not forward.call.counted:
            self._check_seen(forward.ids, forward.inputs)
            self._count(forward.cache)

    def _prompt(self, forward: ForwardPass) -> Call | None:
        """Find the prompt that a forward pass reads; None where it reads none with pictures."""
        if forward.call is not None and forward.call.prompt is not None:
            prompt, forward.call.prompt = forward.call.prompt, None
            if forward.ids is None:
                raise ValueError(
                    "inputs_embeds: the prompt was changed before the LLM read it, as prompt "
                    "tuning does, and pictures in there cannot be told from text; leave that out"
                )
            if has_entries(forward.cache):
                raise ValueError(
                    "past_key_values: the cache was filled before the prompt was read, as prefix "
                    "tuning does, and pruning would hide that; leave the prefix out"
                )
            return prompt
        if self.backbone.entry is self.backbone.reader and self.backbone.brings_pictures(
            forward.inputs
        ):
            self.check_call(forward.inputs)
            return self.encoded(forward.inputs)
        return None

    def encoded(self, inputs: Mapping[str, Any]) -> Call:
        """Encode the pictures of a call once, whatever its prefill looks like."""
        encoded = self.backbone.encode(inputs, self.method.reads_tower)
        return Call(inputs, encoded, self.backbone.layout(inputs, encoded))

    def check_call(self, inputs: Mapping[str, Any]) -> None:
        """Refuse prompts whose vision tokens cannot be told from others, or follow a cache."""
        check_token_types(self.backbone.model.config, inputs)
        if inputs.get("input_ids") is None:
            raise ValueError(
                "inputs_embeds: pictures in there cannot be told from text; give input_ids and "
                "pixel_values"
            )
        if has_entries(inputs.get("past_key_values")):
            raise ValueError(
                "past_key_values: a further turn on a pruned cache takes text alone, and pictures "
                "cannot follow a prompt that is in it; start anew with all of them"
            )

    def _check_seen(self, ids: Tensor | None, inputs: Mapping[str, Any]) -> None:
        """Refuse a prompt whose pictures, if it has any, would pass whole."""
        given = self.backbone.encoded_argument(inputs)
        if given is not None:
            raise ValueError(
                f"{given}: encoded pictures of a {type(self.backbone.model).__name__} cannot be "
                "pruned; give pixel_values"
            )
        if ids is None and inputs.get("inputs_embeds") is not None:
            raise ValueError(
                "inputs_embeds: pictures in there cannot be told from text; give input_ids and "
                "pixel_values to asymvlm.prune"
            )
        elsewhere = inputs.get("input_ids") is None  # the ids behind embeddings
        if ids is not None and elsewhere and bool(self.backbone.placeholders(ids).any()):
            raise ValueError(
                "inputs_embeds: pictures were put in there past the model, as type(model).generate("
                "model, ...) does; call model.generate(...)"
            )

    def _count(self, cache: Any) -> None:
        if has_entries(cache):
            self.report.continued += 1
        else:
            self.report.text_only += 1

    def _go_on(self, forward: ForwardPass) -> None:
        """Fit masks and positions to what a pruned cache holds."""
        inputs, state = forward.inputs, forward.state
        if forward.call is None:
            self.report.continued += 1
        if state is not None:
            forward.columns, forward.family = state.columns, state.family
        self.backbone.before_step(forward)
        if state is None or forward.ids is None:
            return
        state.fitted = len(state.columns) == 1 or "layers" in self.needs
        seen, new = int(forward.cache.get_seq_length()), forward.ids.shape[1]
        mask = _mask_of_call(forward, seen + new)
        if state.reads_all or (mask is None and not state.has_gaps):
            return
        fitted = state.fitted_mask(mask, seen, new)
        if not state.has_gaps and bool(fitted.all()):
            return
        # Masks are made for the columns behind the dropped ones, see `engine.pruned_cache`.
        inputs["attention_mask"] = torch.nn.functional.pad(fitted, (state.dropped(), 0))

    def passed_by(self) -> None:
        self.report.unseen += 1

    def after_forward(self, forward: ForwardPass, output: Any) -> None:
        if forward.state is not None:
            self.restore_step(forward, output)
            return
        if not (forward.columns or forward.family):
            return
        assert forward.ids is not None
        self.restore(forward, output)
        cache = getattr(output, "past_key_values", None)
        if cache is not None:
            mark_pruned(cache, self._state(forward))

    def restore(self, forward: ForwardPass, output: Any) -> None:
        """Bring an output into the caller's columns."""

    def restore_step(self, forward: ForwardPass, output: Any) -> None:
        """Bring the output of a step behind a pruned prompt into the caller's columns."""

    def _state(self, forward: ForwardPass) -> PromptState:
        assert forward.prompt_mask is not None
        length, positions = forward.prompt_length, forward.positions
        mask = forward.prompt_mask[:, :length]
        columns = [item.first(length) for item in forward.columns] or [PromptColumns.whole(mask)]
        several = positions is not None and positions.ndim == 3
        return PromptState(
            length=length,
            columns=columns,
            positions=positions[..., :length] if positions is not None and several else None,
            last=length - 1 - mask.flip(1).long().argmax(1) if several else None,
            left_padded=is_left_padded(mask),
            family=forward.family,
            needs_masks=always_masks(self.backbone.model),
        )


def _mask_of_call(forward: ForwardPass, width: int) -> Tensor | None:
    """Find the caller's mask of all columns; `generate` may have made another form of it."""
    mask = forward.inputs.get("attention_mask")
    if mask is None or (isinstance(mask, Tensor) and mask.ndim == 2):
        return mask
    known = None if forward.call is None else forward.call.attention_mask
    assert forward.ids is not None
    if known is None and forward.call is None:
        raise ValueError(
            "attention_mask: this cache holds different numbers of entries; give a mask of [batch, "
            "tokens seen and new]"
        )
    if known is None:
        return None
    known = known.repeat_interleave(len(forward.ids) // len(known), dim=0)
    return torch.nn.functional.pad(known, (0, width - known.shape[1]), value=1)
