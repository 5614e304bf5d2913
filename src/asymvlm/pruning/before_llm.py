"""Prune before the LLM: the prompt loses the dropped tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..backbone import Call
from ..engine import ForwardPass, dense
from .prune_stage import PruneStage
from .select import select_batch


class BeforeLLM(PruneStage):
    """Prunes the calls of one model before its LLM."""

    order = 0

    def encoded(self, inputs: Mapping[str, Any]) -> Call:
        call = super().encoded(inputs)
        with dense(self.backbone.model):
            call.kept = select_batch(self.backbone, self.method, self.keep, call)
        stages = [{0: len(choice.index)} for choice in call.kept]
        self.report.note(call.layout.grids, call.kept, stages)
        return call

    def apply(self, forward: ForwardPass, call: Call) -> None:
        self.backbone.read_pruned(forward, call)

    def restore(self, forward: ForwardPass, output: Any) -> None:
        """Bring states and attention weights into the caller's columns, 0 where tokens left."""
        if not forward.columns or forward.prompt_mask is None:
            return
        columns, length = forward.columns[0], forward.prompt_mask.shape[1]
        output.last_hidden_state = columns.scatter_states(output.last_hidden_state, length)
        if output.get("hidden_states") is not None:
            output.hidden_states = tuple(
                columns.scatter_states(item, length) for item in output.hidden_states
            )
        if output.get("attentions") is not None:
            output.attentions = tuple(
                None if item is None else columns.scatter_attention(item, length)
                for item in output.attentions
            )

    def restore_step(self, forward: ForwardPass, output: Any) -> None:
        if output.get("attentions") is None or not forward.columns:
            return
        columns, length = forward.columns[0], forward.state.length  # type: ignore[union-attr]
        output.attentions = tuple(
            None if item is None else columns.scatter_step(item, length)
            for item in output.attentions
        )
