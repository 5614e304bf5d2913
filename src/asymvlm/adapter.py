"""A LoRA adapter beside a scorer: a standard peft directory, and a model that wears it for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel

from .check import ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE


@dataclass(frozen=True)
class AdapterWeights:
    """What peft needs of an adapter: the arguments of its LoraConfig, and its tensors by peft's names."""

    settings: dict[str, Any]
    tensors: dict[str, Tensor]

    @classmethod
    def stored(cls, description: dict[str, Any], state: dict[str, Tensor]) -> AdapterWeights:
        """Out of a training checkpoint: what `training.lora.Adapters` says of itself, and the module's state."""
        tensors = {name: state[f"adapters.weights.{index}"] for index, name in enumerate(description["names"])}
        return cls(description["settings"], tensors)

    def save(self, directory: Path) -> None:
        """A directory that `peft.PeftModel.from_pretrained` loads."""
        from peft import LoraConfig

        LoraConfig(**self.settings).save_pretrained(str(directory))
        save_file({name: tensor.contiguous().cpu() for name, tensor in self.tensors.items()}, directory / ADAPTER_WEIGHTS_FILE)


@contextmanager
def wearing(model: PreTrainedModel, directory: Path) -> Iterator[None]:
    """While open, `model` has the adapter of `directory`; afterwards it is the model that it was, bit for bit.

    Raises ValueError for a model that has adapters already, or one that the adapter does not fit.
    """
    from peft import PeftModel
    from peft.tuners.tuners_utils import BaseTunerLayer

    if hasattr(model, "get_base_model") or any(isinstance(module, BaseTunerLayer) for module in model.modules()):
        raise ValueError(f"adapter: the model has adapters already; take them off, or load {directory} beside them with peft")
    trainable = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        adapted = PeftModel.from_pretrained(model, str(directory))
    except (ValueError, RuntimeError, KeyError) as error:
        raise ValueError(
            f"adapter: {directory / ADAPTER_CONFIG_FILE} does not fit {type(model).__name__} ({error}); "
            "use the model that it was trained on"
        ) from error
    try:
        yield
    finally:
        adapted.unload()
        for parameter, before in trainable:
            parameter.requires_grad_(before)
