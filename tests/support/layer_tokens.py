"""Tokens as methods inside the LLM see them."""

from __future__ import annotations

import pytest
import torch

from asymvlm.methods.base import LayerView, Tokens
from asymvlm.methods.dart import DART
from asymvlm.methods.fast_v import FastV
from asymvlm.methods.pyramid_drop import PyramidDrop
from asymvlm.methods.sparse_vlm import SparseVLM
from asymvlm.methods.vlm_pruner import VLMPruner

METHODS = {cls.kind: cls for cls in (DART, FastV, PyramidDrop, SparseVLM, VLMPruner)}


every_method = pytest.mark.parametrize("kind", METHODS)


def make(
    vision,
    *,
    text=None,
    keys=None,
    text_keys=None,
    attention=None,
    own=None,
    norm=lambda states: states,
    question=None,
    grid=None,
    inputs=None,
):
    """What a method sees of one sample; zeros, and one row of places, where nothing is given.

    The attention of its own layer, `own`, is that of the layer below where it is not given.
    """
    vision = torch.as_tensor(vision, dtype=torch.float32) if isinstance(vision, list) else vision
    text = torch.zeros(1, vision.shape[1]) if text is None else torch.as_tensor(text)
    keys = torch.zeros(len(vision), 2) if keys is None else torch.as_tensor(keys)
    text_keys = (
        torch.zeros(len(text), keys.shape[1]) if text_keys is None else torch.as_tensor(text_keys)
    )
    attention = (
        torch.zeros(1, len(text), len(vision)) if attention is None else torch.as_tensor(attention)
    )
    question = (
        torch.ones(len(text), dtype=torch.bool) if question is None else torch.as_tensor(question)
    )
    if grid is None:
        grid = torch.stack(
            [torch.zeros(len(vision)), torch.zeros(len(vision)), torch.arange(len(vision))], dim=-1
        )

    def unasked(*_):
        raise AssertionError("not for methods inside the LLM")

    return Tokens(
        vision=vision,
        text=text,
        text_ids=torch.arange(len(text)),
        question=question,
        grid=torch.as_tensor(grid).long(),
        tower=unasked,
        pixel_contrast=unasked,
        dense_attention=unasked,
        at_resolution=unasked,
        below=lambda: LayerView(
            keys,
            text_keys,
            lambda rows: attention[:, rows],
            lambda rows: (attention if own is None else torch.as_tensor(own))[:, rows],
            norm,
        ),
        llm_inputs=None if inputs is None else lambda: inputs,
    )


def some(total=37, pictures=1, dtype=torch.float32, seed=0, same=False):
    """Random tokens on pictures of six columns; `same` has them all alike."""
    generator = torch.Generator().manual_seed(seed)

    def draw(rows, width):
        made = torch.randn(rows, width, generator=generator)
        return (made[:1].expand(rows, -1) if same else made).to(dtype)

    attention = torch.rand(4, 7, total, generator=generator)
    place = torch.arange(total)
    return make(
        draw(total, 12),
        text=draw(7, 12),
        keys=draw(total, 8),
        text_keys=draw(7, 8),
        question=torch.arange(7) > 2,
        attention=torch.full_like(attention, 0.1) if same else attention,
        grid=torch.stack([place * pictures // total, place // 6, place % 6], dim=-1),
    )


def chosen(method, tokens, count):
    return method.select(tokens, count).tolist()
