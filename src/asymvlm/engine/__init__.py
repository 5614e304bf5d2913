"""The hooks on a model: the only code that touches it.

One `ModelHooks` per model wraps `generate` and the forward pass that reads the prompt, hooks the
decoder layers and the attention function, and puts everything back. What is done there is up to
stages (`stage`), which own no hooks. What a cache that lost columns knows of its prompt travels
with the cache (`pruned_cache`). Imports selectors and typing.
"""

from .attention import always_masks, attends_through_stages, register
from .attention_inputs import Attend, AttentionInputs, AttentionStage
from .hooked_model import HookedModel
from .hooks import hooked
from .model_hooks import ModelHooks, dense
from .prompt_columns import PromptColumns
from .pruned_cache import (
    PromptState,
    has_entries,
    is_left_padded,
    mark_pruned,
    prompt_state,
)
from .stage import ForwardPass, GenerateCall, Stage

__all__ = [
    "Attend",
    "AttentionInputs",
    "AttentionStage",
    "ForwardPass",
    "GenerateCall",
    "HookedModel",
    "ModelHooks",
    "PromptColumns",
    "PromptState",
    "Stage",
    "always_masks",
    "attends_through_stages",
    "dense",
    "has_entries",
    "hooked",
    "is_left_padded",
    "mark_pruned",
    "prompt_state",
    "register",
]
