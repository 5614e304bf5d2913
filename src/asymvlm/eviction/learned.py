"""A learned rule: what an entry will be worth is read off its value."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..errors import DataError
from ..shapes import Float
from .base import Entries, Evictor, Written


class LearnedText(Evictor):
    """The entry leaves of which the least attention is expected, as a line through its value foretells it, layer by layer.

    The counterpart of the importance scorer for text: distilled from the frozen VLM's own attention by `asymvlm.training.text_scores`,
    in closed form. What is worth keeping is known when it is written, before anybody asks for it, and no attention is needed.

    Args:
        weights: The file that the training wrote: `weight` [layers, G * d] and `bias` [layers].
        sinks: Oldest entries that stay.
        recent: Newest entries that stay.

    Raises DataError for a file that cannot be used, ValueError for one of another model.
    """

    kind = "learned_text"

    def __init__(self, weights: str | Path, sinks: int = 4, recent: int | None = 16) -> None:
        super().__init__(sinks, recent)
        try:
            stored = load_file(weights)
        except (OSError, SafetensorError) as error:
            raise DataError(f"weights: {weights} cannot be read ({error}); make it with python -m asymvlm.training.text_scores") from error
        if stored.keys() != {"weight", "bias"} or stored["bias"].shape != stored["weight"].shape[:1]:
            raise DataError(f"weights: {weights} must hold weight [layers, values] and bias [layers], not {', '.join(sorted(stored))}")
        self._weight, self._bias = stored["weight"], stored["bias"]

    def first(self, new: Written) -> Float[Tensor, "B q"]:
        values = new.values.transpose(1, 2).flatten(2).float()
        if new.layer >= len(self._weight) or values.shape[-1] != self._weight.shape[1]:
            raise ValueError(
                f"weights: for {len(self._weight)} layers with values of {self._weight.shape[1]} numbers; layer {new.layer} of this model "
                f"has values of {values.shape[-1]}; train them on this model"
            )
        self._weight, self._bias = self._weight.to(values.device), self._bias.to(values.device)
        return values @ self._weight[new.layer] + self._bias[new.layer]

    def order(self, entries: Entries) -> Float[Tensor, "B K"]:
        return entries.score
