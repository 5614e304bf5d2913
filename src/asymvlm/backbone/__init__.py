"""A frozen transformers VLM and where its vision tokens are.

Finds the vision tokens of a prompt, their grid and their positions, in any supported family, and
records what the model computes on the way. Knows transformers and nothing of scores. Targets,
methods, pruning, eviction and everything above may import it; it imports typing, errors and nothing
else of the package.
"""

from typing import Any

from .attention_recorder import AttentionRecorder, recording
from .backbone import Backbone
from .families.flamingo import Flamingo
from .families.mllama import Mllama
from .families.q_former import QFormer
from .layout import Encoded, Kept, Layout

__all__ = ["AttentionRecorder", "Backbone", "Encoded", "Kept", "Layout", "backbone_of", "recording"]

# Families with a mechanism of their own; all others put their vision tokens into the sequence and
# take them encoded.
_MECHANISMS: dict[str, type[Backbone]] = {
    "blip-2": QFormer,
    "instructblip": QFormer,
    "idefics": Flamingo,
    "mllama": Mllama,
}


def backbone_of(model: Any) -> Backbone:
    """Wrap a model as the backbone of its family; looks inside a PeftModel."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return _MECHANISMS.get(inner.config.model_type, Backbone)(inner)
