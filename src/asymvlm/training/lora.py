"""LoRA adapters (peft) inside the frozen VLM, trained to answer from pruned prompts."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from torch import nn

from ..backbone import Backbone
from .settings import LoraSettings


class LoraAdapters(nn.Module):
    """Adapters inside a VLM, which stays outside the module tree; this holds their weights alone.

    Raises ValueError for targets that the model does not have.
    """

    def __init__(self, backbone: Backbone, settings: LoraSettings) -> None:
        from peft import LoraConfig, get_peft_model

        super().__init__()
        self.modules_adapted = modules_to_adapt(backbone, settings.targets)
        inside = _modules_of_llm(backbone)
        adapted = [backbone.model.get_submodule(name) for name in self.modules_adapted]
        self.before_llm = any(id(module) not in inside for module in adapted)
        self._settings: dict[str, Any] = {
            "r": settings.rank,
            "lora_alpha": settings.alpha,
            "target_modules": self.modules_adapted,
        }
        # In a tuple, so that it is no submodule.
        self._adapted = (get_peft_model(backbone.model, LoraConfig(**self._settings)),)
        trained = [
            (name, parameter)
            for name, parameter in self._adapted[0].named_parameters()
            if parameter.requires_grad
        ]
        # As peft stores them.
        self._names = [name.replace(".default.", ".") for name, _ in trained]
        self.weights = nn.ParameterList([parameter for _, parameter in trained])

    def off(self) -> AbstractContextManager[None]:
        """Switch the adapters off while open."""
        return self._adapted[0].disable_adapter()

    def description(self) -> dict[str, Any]:
        """Describe the adapters as plain values, for exports."""
        return {"settings": self._settings, "names": self._names}


def modules_to_adapt(backbone: Backbone, targets: tuple[str, ...]) -> list[str]:
    """List the full names of the linear modules that `LoraSettings.targets` names.

    Raises ValueError for a target that is not there.
    """
    inside = _modules_of_llm(backbone)
    modules = backbone.model.named_modules()
    linear = {name: id(module) for name, module in modules if isinstance(module, nn.Linear)}
    found: dict[str, None] = {}
    for target in targets:
        named = [
            name
            for name, module in linear.items()
            if f".{name}".endswith(f".{target}") and ("." in target or module in inside)
        ]
        if not named:
            known = sorted({name.rpartition(".")[2] for name, m in linear.items() if m in inside})
            raise ValueError(
                f"model.lora.targets: {target!r} is no linear module of "
                f"{type(backbone.model).__name__}; its LLM's layers have {', '.join(known)}, "
                "others are named with a dot"
            )
        found.update(dict.fromkeys(named))
    return list(found)


def _modules_of_llm(backbone: Backbone) -> set[int]:
    layers: Any = backbone.decoder.layers
    return {id(module) for module in layers.modules()}
