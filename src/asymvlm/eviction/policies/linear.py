"""Predicted attention: a linear predictor on an entry's value vector."""

from __future__ import annotations

import warnings
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import PreTrainedModel

from ...errors import DataError
from ...storage.weight_sketch import differs
from ...typing import Float
from ..base import Entries, Evictor, NewEntries

# The file's metadata: the fingerprint of the VLM's weight files, and a sketch of the weights.
MADE_FOR, SKETCH = "teacher", "sketch"


def is_linear_predictor(path: Path) -> bool:
    """Return whether a file holds what `LinearEvictor` reads."""
    try:
        with safe_open(path, "pt") as file:
            return set(file.keys()) == {"weight", "bias"} and MADE_FOR in (file.metadata() or {})
    except (OSError, SafetensorError):
        return False


class LinearEvictor(Evictor):
    """Evicts the entries with the lowest predicted attention: score = w_l . v + b_l.

    v is the entry's value vector [G * d] in layer l.

    The counterpart of the importance scorer for text: distilled from the frozen VLM's own attention
    by `asymvlm.training.fit_eviction`, in closed form. What is worth keeping is known when it is
    written, before anybody asks for it, and no attention is needed.

    Args:
        weights: The file that the training wrote: `weight` [layers, G * d] and `bias` [layers], and
            what the VLM's weights are known by.
        sinks: Oldest entries that stay.
        recent: Newest entries that stay.

    Raises DataError for a file that cannot be used, ValueError for a model of other sizes; warns of
    a model with other weights.
    """

    kind = "learned_text"

    def __init__(self, weights: str | Path, sinks: int = 1, recent: int | None = 14) -> None:
        super().__init__(sinks, recent)
        try:
            with safe_open(weights, "pt") as file:
                names = list(file.keys())
                stored = {name: file.get_tensor(name) for name in names}
                about = file.metadata() or {}
        except (OSError, SafetensorError) as error:
            raise DataError(
                f"weights: {weights} cannot be read ({error}); make it with python -m "
                "asymvlm.training.fit_eviction"
            ) from error
        if (
            stored.keys() != {"weight", "bias"}
            or stored["bias"].shape != stored["weight"].shape[:1]
        ):
            raise DataError(
                f"weights: {weights} must hold weight [layers, values] and bias [layers], not "
                f"{', '.join(sorted(stored))}"
            )
        self._weight, self._bias = stored["weight"], stored["bias"]
        self._made_for = {"weights": about.get(MADE_FOR, ""), "sketch": about.get(SKETCH, "")}

    def check(self, model: PreTrainedModel) -> None:
        config = model.config.get_text_config()
        groups = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        if tuple(self._weight.shape) != (config.num_hidden_layers, groups * size):
            raise ValueError(
                f"weights: for {len(self._weight)} layers with values of {self._weight.shape[1]} "
                f"numbers; {type(model).__name__} has "
                f"{config.num_hidden_layers} with {groups * size}; fit them to this model: python "
                "-m asymvlm.training.fit_eviction"
            )
        if differs(self._made_for, model):
            warnings.warn(
                f"weights: fitted to others than those of this {type(model).__name__}, so they "
                "predict its attention less well; fit them again: python -m "
                "asymvlm.training.fit_eviction",
                stacklevel=2,
            )

    def initial_score(self, new: NewEntries) -> Float[Tensor, "B q"]:
        values = new.values.transpose(1, 2).flatten(2).float()
        self._weight, self._bias = self._weight.to(values.device), self._bias.to(values.device)
        return values @ self._weight[new.layer] + self._bias[new.layer]

    def rank(self, entries: Entries) -> Float[Tensor, "B K"]:
        return entries.score
