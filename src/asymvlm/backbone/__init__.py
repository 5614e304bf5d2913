"""A frozen transformers VLM and the places of its vision tokens.

Finds the vision tokens of a prompt, their grid and their positions, in any supported family, and
records what the model computes on the way. Knows transformers and nothing of scores. Imports
engine, errors, registry, storage and typing.
"""

import inspect
from functools import cache
from typing import Any

from transformers import PreTrainedModel

from ..registry import import_all
from .attention_recorder import AttentionRecorder
from .backbone import Backbone
from .layout import Call, EncodedPictures, Kept, Layout

__all__ = [
    "AttentionRecorder",
    "Backbone",
    "Call",
    "EncodedPictures",
    "Kept",
    "Layout",
    "backbone_of",
]


def backbone_of(model: Any) -> Backbone:
    """Wrap a model as the backbone of its family; looks inside a PeftModel.

    Raises ValueError for something that wraps a model or is a part of one.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    _check_model(inner)
    return _by_model_type().get(inner.config.model_type, Backbone)(inner)


def _check_model(model: Any) -> None:
    name = type(model).__name__
    for place in ("_orig_mod", "module"):
        if isinstance(getattr(model, place, None), PreTrainedModel):
            raise ValueError(
                f"model: {name} is put around a model; give the one inside, model.{place}, and "
                "call that"
            )
    if not isinstance(model, PreTrainedModel):
        raise ValueError(f"model: {name} is no model of transformers; give one")
    if not model.can_generate():
        raise ValueError(
            f"model: {name} is a part of a model or cannot generate; give the whole one, as "
            "AutoModelForImageTextToText loads it"
        )


@cache
def _by_model_type() -> dict[str, type[Backbone]]:
    """Families with a mechanism of their own; all others put their tokens into the sequence."""
    classes = [cls for module in import_all(f"{__name__}.families") for cls in _own(module)]
    return {model_type: cls for cls in classes for model_type in cls.model_types}


def _own(module: Any) -> list[type[Backbone]]:
    classes = [cls for cls in vars(module).values() if inspect.isclass(cls)]
    return [cls for cls in classes if issubclass(cls, Backbone) and "model_types" in vars(cls)]
