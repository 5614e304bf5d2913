"""Tokens as methods before the LLM see them."""

from __future__ import annotations

import pytest
import torch

from asymvlm.backbone.tower.watch import TowerView
from asymvlm.methods import Method, Tokens, cd_pruner


def make(
    vision,
    attention=None,
    keys=None,
    heads=1,
    states=None,
    ink=None,
    single_head=None,
    columns=4,
    projector=None,
    keys_above=None,
):
    """Tokens of one picture; what a test does not give is made so that nothing can depend on it."""
    vision = torch.as_tensor(vision)
    count = len(vision)

    def given(value):
        return (
            vision.new_full((count, 1), torch.nan)
            if value is None
            else torch.as_tensor(value).to(vision)
        )

    def flat(value):
        return given(value).reshape(count)

    def refused(*args):
        raise AssertionError("no method of this file asks for it")

    place = torch.arange(count)
    return Tokens(
        vision=vision,
        text=vision[:1],
        text_ids=torch.tensor([1]),
        question=torch.tensor([True]),
        grid=torch.stack([torch.zeros_like(place), place // columns, place % columns], 1).to(
            vision.device
        ),
        tower=lambda: TowerView(
            flat(attention),
            lambda: flat(single_head),
            given(keys),
            given(states),
            heads,
            None if keys_above is None else lambda: given(keys_above),
        ),
        pixel_contrast=lambda: flat(ink),
        dense_attention=refused,
        at_resolution=refused,
        below=refused,
        projector=lambda: projector,
    )


def at_angles(*degrees, lengths=1.0):
    turned = torch.deg2rad(torch.tensor(degrees, dtype=torch.float))
    return torch.stack([turned.cos(), turned.sin()], 1) * torch.as_tensor(lengths).reshape(-1, 1)


class Scores(Method):
    """A base for IDPruner: fixed scores."""

    reads_tower = True

    def __init__(self, scores=None):
        self.scores, self.heard = scores, []

    def score(self, tokens):
        return torch.as_tensor(self.scores) if self.scores is not None else tokens.tower().attention

    def budget(self, tokens):
        return 0.3

    def begin(self, samples):
        self.heard += samples


@pytest.fixture(autouse=True)
def similarity(monkeypatch):
    """CLIP's similarity is the first number of each tower state."""
    monkeypatch.setattr(
        cd_pruner,
        "ClipSimilarity",
        lambda clip, tokenizer: lambda tokens: tokens.tower().states[:, 0],
    )
