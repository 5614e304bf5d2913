"""The learned scorer as a method."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..checkpoint.scorer import TrainedScorer, load_scorer
from ..scorers import TokenBatch
from ..storage.weight_sketch import differs
from ..typing import Float
from .base import Method, Tokens


class Learned(Method):
    """A trained scorer and its budget head (AsymVLM, arXiv 2605.29535, and `asymvlm.scorers`).

    Args:
        trained: The scorer, or the directory or repository that it is loaded from when it is first
            needed.
        adapter: Activate the LoRA adapter that was trained beside the scorer.
    """

    kind = "learned"
    state = ("_given",)  # `trained` is what it stands for

    def __init__(self, trained: TrainedScorer | str, adapter: bool = False) -> None:
        self._given, self._with_adapter = trained, adapter

    @cached_property
    def trained(self) -> TrainedScorer:
        """The loaded scorer and budget head."""
        return load_scorer(self._given) if isinstance(self._given, str) else self._given

    def check_model(self, model: Any) -> list[str]:
        self._check_width(int(model.config.get_text_config().hidden_size))
        about = self.trained.about.get("teacher") or {}
        notes = []
        if isinstance(about, dict) and differs(about, model):
            notes.append(
                f"scorer: trained on other weights ({about.get('name', 'unknown')}) than those of "
                f"this {type(model).__name__}, so its choice may be poor; train one on this model"
            )
        if self.trained.adapter is not None and not self._with_adapter:
            notes.append(
                "scorer: trained beside a LoRA adapter, which is not active; give adapter=True to "
                "have the model that it was trained with"
            )
        return notes

    @cached_property
    def adapter(self) -> Path | None:  # type: ignore[override]
        """The directory of the adapter to activate; None without one."""
        if not self._with_adapter:
            return None
        if self.trained.adapter is None:
            raise ValueError(
                "adapter: the scorer's directory has none; leave it out, or train one with "
                "configs/stage2/lora.yaml"
            )
        return self.trained.adapter

    def _check_width(self, width: int) -> None:
        if width != self.trained.width:
            raise ValueError(
                f"scorer: trained for a width of {self.trained.width}, this model's is {width}; "
                "train one on this model, or load the scorer of this model"
            )

    def _batch(self, tokens: Tokens) -> TokenBatch:
        self._check_width(tokens.vision.shape[-1])
        weights = next(self.trained.parameters())
        if weights.device != tokens.vision.device:
            self.trained.to(tokens.vision.device)
        mask = self.trained.text_mask(tokens.text_ids)
        return TokenBatch.single(
            tokens.vision.to(weights.dtype), tokens.text.to(weights.dtype), tokens.grid, mask
        )

    @torch.no_grad()
    def score(self, tokens: Tokens) -> Float[Tensor, "n"]:
        return self.trained.scorer(self._batch(tokens))[0]

    @torch.no_grad()
    def budget(self, tokens: Tokens) -> float:
        batch = self._batch(tokens)
        _, keep = self.trained(batch)
        return super().budget(tokens) if keep is None else float(keep[0])
