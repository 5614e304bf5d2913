"""A few entries of one row, as policies see them."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from asymvlm.eviction.budget import budget_for
from asymvlm.eviction.cache import EvictingLayer
from asymvlm.eviction.new_tokens import new_tokens


class Row:
    """One layer and one or more rows of a batch, told what its tokens are and what attention they
    pay, without a model.

    Keys are as long as `lengths` says, 1 if it does not; values are the token's position.
    """

    def __init__(self, policy, text_budget, vision_budget=None):
        self.layer, self.policy = EvictingLayer("by hand", 0), policy
        self.budget = budget_for(policy, text_budget, vision_budget)
        self.mask = None

    def add(self, kinds, attention=None, lengths=None):
        """New tokens per row: "t" text, "v" vision, "." padding.

        And attention of the newest rows `[B, q, K]` to the K slots.
        """
        real = torch.tensor([[kind != "." for kind in row] for row in kinds])
        vision = torch.tensor([[kind == "v" for kind in row] for row in kinds])
        self.mask = real.long() if self.mask is None else torch.cat([self.mask, real.long()], dim=1)
        entries = self.layer.entries
        new = new_tokens(
            self.mask,
            vision,
            0 if entries is None else entries.text_position.amax(-1, keepdim=True) + 1,
        )
        keys = torch.zeros(*real.shape, 2)
        keys[..., 1] = 1.0 if lengths is None else torch.tensor(lengths)
        values = new.position[..., None].float()
        self.layer.expect()
        self.layer.update(keys[:, None], values[:, None])
        self.layer.register(
            new,
            self.policy,
            torch.ones(len(kinds), 1, real.shape[1], self.mask.shape[1], dtype=torch.bool),
        )
        if attention is not None:
            self.policy.update(self.layer.entries, torch.tensor(attention))
        self.layer.evict(new, self.policy, self.budget)
        return self

    @property
    def gone(self):
        """Positions that have left the first row, in the order they went."""
        return [position for position, _ in self.layer.counts.evicted()[0]]


ATTENTION = [0.30, 0.02, 0.20, 0.01, 0.15, 0.12, 0.20]  # mean 1/7, half of it 0.07


@pytest.fixture
def line(tmp_path):
    """A learned rule for one layer: the value's own number, but a tenth less."""
    save_file(
        {"weight": torch.ones(1, 1), "bias": torch.full((1,), -0.1)}, tmp_path / "line.safetensors"
    )
    return tmp_path / "line.safetensors"
