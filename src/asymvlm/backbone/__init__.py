"""A frozen transformers VLM and where its vision tokens are. Knows transformers, knows nothing of scores."""

from typing import Any

from .backbone import Backbone
from .flamingo import Flamingo
from .layout import Encoded, Kept, Layout
from .mllama import Mllama
from .q_former import QFormer
from .relevance import RelevanceRecorder, recording

__all__ = ["Backbone", "Encoded", "Kept", "Layout", "RelevanceRecorder", "backbone_of", "recording"]

# Families with a mechanism of their own; all others put their vision tokens into the sequence and take them encoded.
_MECHANISMS: dict[str, type[Backbone]] = {"blip-2": QFormer, "instructblip": QFormer, "idefics": Flamingo, "mllama": Mllama}


def backbone_of(model: Any) -> Backbone:
    """The model as a backbone, by the mechanism of its family; looks inside a PeftModel."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return _MECHANISMS.get(inner.config.model_type, Backbone)(inner)
