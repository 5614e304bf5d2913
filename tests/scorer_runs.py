"""What trainings of a scorer left behind, compared to the bit."""

from __future__ import annotations

import torch
from safetensors.torch import load_file


def weights(out):
    return load_file(out / "scorer" / "model.safetensors")


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
