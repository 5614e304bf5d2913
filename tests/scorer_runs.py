"""What trainings of a scorer left behind, compared to the bit."""

from __future__ import annotations

import torch
from safetensors.torch import load_file
from transformers.models.llama.modeling_llama import LlamaDecoderLayer


def weights(out):
    return load_file(out / "scorer" / "model.safetensors")


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def layers_read(monkeypatch):
    """A list that grows whenever a layer of the LLM reads."""
    calls, forward = [], LlamaDecoderLayer.forward

    def counting(self, *args, **kwargs):
        calls.append(self.self_attn.layer_idx)
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(LlamaDecoderLayer, "forward", counting)
    return calls
