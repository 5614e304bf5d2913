"""`Tokens` made by hand, for methods that are tried on a few of them."""

from __future__ import annotations

import math
from typing import Any

import torch

import asymvlm


def refuse(*args: Any) -> Any:
    raise AssertionError("this method was not expected to ask for that")


def tokens_of(count: int, **given: Any) -> asymvlm.Tokens:
    """`count` vision tokens of 4 numbers on a grid about as wide as high and 3 text tokens.

    What is `given` replaces the defaults.

    Views that a method asks for are given as they are, not as functions: `tower=TowerView(...)`.
    """
    columns = max(1, math.isqrt(count))
    place = torch.arange(count)
    generator = torch.Generator().manual_seed(0)
    defaults: dict[str, Any] = {
        "vision": torch.randn(count, 4, generator=generator),
        "text": torch.randn(3, 4, generator=generator),
        "text_ids": torch.arange(3),
        "question": torch.ones(3, dtype=torch.bool),
        "grid": torch.stack([torch.zeros_like(place), place // columns, place % columns], dim=-1),
    }
    lazy = dict.fromkeys(
        ("tower", "pixel_contrast", "dense_attention", "at_resolution", "below"), refuse
    )
    views = {
        name: (lambda value=value: value) if name in lazy else value
        for name, value in given.items()
    }
    return asymvlm.Tokens(**{**defaults, **lazy, **views})
