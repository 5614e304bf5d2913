"""Kinds of scorers that the schema does not list: files that users put into `asymvlm/scorers`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .schema import KINDS

Shapes = dict[str, tuple[int, ...]]


def own_kinds() -> dict[str, Callable[[dict[str, Any]], Shapes]]:
    """For each kind a function from its arguments to the shapes of its tensors.

    Only torch can say, so there are none where torch is not installed.
    """
    try:
        import torch

        from ..scorers import scorers
    except ImportError:
        return {}

    def shapes_of(cls: type) -> Callable[[dict[str, Any]], Shapes]:
        def shapes(arguments: dict[str, Any]) -> Shapes:
            with torch.device("meta"):
                state = cls(**arguments).state_dict()
            return {name: tuple(tensor.shape) for name, tensor in state.items()}

        return shapes

    return {kind: shapes_of(cls) for kind, cls in scorers().items() if kind not in KINDS}
