"""The interface between hooks and a model, and models that are refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from torch import nn
from transformers import PreTrainedModel

from .attention import ATTENTION_NAME
from .stage import ForwardPass, Stage


class HookedModel(Protocol):
    """The parts and facts of a model that the hooks use; a `Backbone` is one."""

    @property
    def model(self) -> PreTrainedModel: ...

    @property
    def entry(self) -> nn.Module:
        """The module that takes pictures and prompt."""

    @property
    def reader(self) -> nn.Module:
        """The module whose forward pass is the LLM's reading of the prompt."""

    @property
    def decoder(self) -> Any:
        """The stack of LLM layers."""

    def generate(self, original: Callable[..., Any], **arguments: Any) -> Any:
        """Generate; `original` is the model's own `generate`."""

    def own_stages(self) -> list[Stage]:
        """Make the stages that every context needs."""

    def family_hooks(
        self, forward: Callable[[], ForwardPass | None]
    ) -> AbstractContextManager[None]:
        """Install what a family needs beyond these hooks; `forward` gives the pass under way."""


def check_attention(inputs: Mapping[str, Any], model: PreTrainedModel) -> None:
    """Refuse what does not go together with an attention function of ours."""
    given = inputs.get("output_attentions")
    if model.config.output_attentions if given is None else given:
        raise ValueError(
            "output_attentions: the layers attend by SDPA here, which gives no weights; leave it "
            "out"
        )
    attends_by = model.config.get_text_config()._attn_implementation
    if attends_by != ATTENTION_NAME:
        raise ValueError(
            f"attn_implementation: {attends_by!r} was set meanwhile, and layers that attend by it "
            "pass unseen; set it before the context opens"
        )
    again = (getattr(module, "gradient_checkpointing", False) for module in model.modules())
    if model.training and any(again):
        raise ValueError(
            "model: layers that are computed again for gradients would be changed twice; call "
            "model.gradient_checkpointing_disable() first"
        )


def check_openable(
    hooked_model: HookedModel,
    name: str,
    stages: Iterable[Stage],
    others: Iterable[HookedModel],
) -> None:
    """Refuse a second stage of one kind, compiled models, and an LLM that another context has."""
    for module in (hooked_model.model, hooked_model.reader):
        if getattr(module, "_compiled_call_impl", None) is not None:
            raise ValueError(
                f"model: {type(module).__name__} is compiled, and a compiled model does not see "
                "what changes from call to call; use it uncompiled"
            )
    if any(stage.name == name for stage in stages):
        raise ValueError(
            f"model: asymvlm.{name} is open on it already, perhaps in another thread; open one at "
            "a time"
        )
    for other in others:
        if other.model is not hooked_model.model and other.reader is hooked_model.reader:
            raise ValueError(
                f"model: a context is open on another {type(other.model).__name__} around the same "
                "LLM; open one at a time"
            )
