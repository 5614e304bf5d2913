"""The LoRA adapter beside a scorer: a standard peft directory, applied for a while."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel

from ..check import ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE, reason


@dataclass(frozen=True)
class AdapterWeights:
    """An adapter as peft needs it: the arguments of its LoraConfig, and its tensors by name."""

    settings: dict[str, Any]
    tensors: dict[str, Tensor]

    @classmethod
    def stored(cls, description: dict[str, Any], state: dict[str, Tensor]) -> AdapterWeights:
        """Read the adapter out of a training checkpoint."""
        tensors = {
            name: state[f"adapters.weights.{index}"]
            for index, name in enumerate(description["names"])
        }
        return cls(description["settings"], tensors)

    def save(self, directory: Path) -> None:
        """Write a directory that `peft.PeftModel.from_pretrained` loads."""
        from peft import LoraConfig

        LoraConfig(**self.settings).save_pretrained(str(directory))
        config = json.loads((directory / ADAPTER_CONFIG_FILE).read_text(encoding="utf-8"))
        # Peft writes a set in whatever order: equal adapters, equal files.
        config["target_modules"].sort()
        (directory / ADAPTER_CONFIG_FILE).write_text(
            json.dumps(config, indent=2) + "\n", encoding="utf-8"
        )
        save_file(
            {name: tensor.contiguous().cpu() for name, tensor in self.tensors.items()},
            directory / ADAPTER_WEIGHTS_FILE,
        )


@contextmanager
def applied_adapter(model: PreTrainedModel, directory: Path) -> Iterator[None]:
    """Apply the adapter of `directory` while open; afterwards the model is as before, bit for bit.

    Raises ValueError for a model that has adapters already, or one that the adapter does not fit.
    """
    from peft import PeftConfig, get_peft_model
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.save_and_load import load_peft_weights, set_peft_model_state_dict

    if hasattr(model, "get_base_model") or any(
        isinstance(module, BaseTunerLayer) for module in model.modules()
    ):
        raise ValueError(
            f"adapter: the model has adapters already; take them off, or load {directory} beside "
            "them with peft"
        )
    with _left_as_found(model), ExitStack() as undo:
        try:
            config = PeftConfig.from_pretrained(str(directory))
            config.inference_mode = True
            # Nothing is drawn at random.
            adapted = get_peft_model(model, config, low_cpu_mem_usage=True)
            undo.callback(adapted.unload)
            stored = load_peft_weights(str(directory), device=str(model.device))
            expected = {name for name in adapted.state_dict() if ".lora_" in name}
            if len(stored) != len(expected):
                raise ValueError(f"{len(stored)} tensors for {len(expected)} places")
            set_peft_model_state_dict(adapted, stored, low_cpu_mem_usage=True)
        except Exception as error:
            # Whatever peft makes of another model, and of keys that the format leaves to it.
            raise ValueError(
                f"adapter: {directory} does not fit {type(model).__name__} ({reason(error)}); use "
                "the model that it was trained on"
            ) from error
        yield


@contextmanager
def _left_as_found(model: PreTrainedModel) -> Iterator[None]:
    """Restore what peft changes in a model: layers, modes, gradients, hooks."""
    parts = [(module, dict(module._modules), module.training) for module in model.modules()]
    trainable = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    hooks = list(getattr(model, "_require_grads_hooks", []))
    try:
        yield
    finally:
        for module, children, was in parts:
            # Peft that fails half way leaves layers of its own, and no way to take them out.
            if module._modules != children:
                module._modules.clear()
                module._modules.update(children)
            module.training = was
        for parameter, before in trainable:
            parameter.requires_grad_(before)
        if list(getattr(model, "_require_grads_hooks", [])) != hooks:
            # Peft's, which transformers remembers instead of the model's own.
            model.disable_input_require_grads()
            if hooks:
                model._require_grads_hooks = hooks
                model._require_grads_hook = hooks[0]  # type: ignore[assignment]
