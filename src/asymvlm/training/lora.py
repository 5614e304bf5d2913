"""LoRA adapters that give back what pruning took (peft), trained inside the frozen VLM."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from ..backbone import Backbone


@dataclass
class LoraSettings:
    """Low-rank adapters (Hu et al., arXiv 2106.09685).

    Args:
        rank: Inner width.
        alpha: What an adapter adds is multiplied by alpha / rank.
        targets: Linear modules that get one: a bare name is looked for in the LLM's layers, one with a dot in the whole model
            ("multi_modal_projector.linear_2").
    """

    rank: int = 8
    alpha: int = 16
    targets: list[str] = field(default_factory=lambda: ["q_proj", "k_proj", "v_proj", "o_proj"])

    def __post_init__(self) -> None:
        for name in ("rank", "alpha"):
            if getattr(self, name) < 1:
                raise ValueError(f"model.lora.{name}: {getattr(self, name)} must be at least 1")
        if not self.targets:
            raise ValueError("model.lora.targets: none are named; q_proj and v_proj are usual")

    def modules(self, backbone: Backbone) -> list[str]:
        """Full names of the modules of a model. Raises ValueError for a target that is not there."""
        layers: Any = backbone.decoder.layers
        inside = {id(module) for module in layers.modules()}
        linear = {name: id(module) for name, module in backbone.model.named_modules() if isinstance(module, nn.Linear)}
        found: dict[str, None] = {}
        for target in self.targets:
            own = [name for name, this in linear.items() if f".{name}".endswith(f".{target}") and ("." in target or this in inside)]
            if not own:
                there = sorted({name.rpartition(".")[2] for name, this in linear.items() if this in inside})
                raise ValueError(
                    f"model.lora.targets: {target!r} is no linear module of {type(backbone.model).__name__}; its LLM's layers have "
                    f"{', '.join(there)}, others are named with a dot"
                )
            found.update(dict.fromkeys(own))
        return list(found)


class LoraAdapters(nn.Module):
    """LoraAdapters inside a VLM, which stays outside the module tree; this module holds their weights alone.

    Raises ValueError for targets that the model does not have.
    """

    def __init__(self, backbone: Backbone, settings: LoraSettings) -> None:
        from peft import LoraConfig, get_peft_model

        super().__init__()
        self.modules_adapted = settings.modules(backbone)
        inside = {id(module) for module in backbone.decoder.layers.modules()}
        self.before_llm = any(id(backbone.model.get_submodule(name)) not in inside for name in self.modules_adapted)
        self._settings: dict[str, Any] = {"r": settings.rank, "lora_alpha": settings.alpha, "target_modules": self.modules_adapted}
        self._adapted = (get_peft_model(backbone.model, LoraConfig(**self._settings)),)  # in a tuple, so that it is no submodule
        named = [(name, one) for name, one in self._adapted[0].named_parameters() if one.requires_grad]
        self._names = [name.replace(".default.", ".") for name, _ in named]  # as peft stores them
        self.weights = nn.ParameterList([parameter for _, parameter in named])

    def off(self) -> AbstractContextManager[None]:
        """While open, the VLM is the one without adapters."""
        return self._adapted[0].disable_adapter()

    def description(self) -> dict[str, Any]:
        """What an export needs beside the weights, as plain values."""
        return {"settings": self._settings, "names": self._names}
