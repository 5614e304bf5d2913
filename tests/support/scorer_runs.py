"""What trainings of a scorer left behind, compared to the bit."""

from __future__ import annotations

import lightning as L
import torch
from safetensors.torch import load_file
from transformers.models.llama.modeling_llama import LlamaMLP


def weights(out):
    return load_file(out / "scorer" / "model.safetensors")


def same(first, second):
    return first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) for name in first
    )


def layers_read(monkeypatch):
    """A list that grows whenever a layer of the LLM reads.

    By its inner part, since checkpointing stands around the layer itself.
    """
    calls, forward = [], LlamaMLP.forward

    def counting(self, *args, **kwargs):
        calls.append(id(self))
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(LlamaMLP, "forward", counting)
    return calls


class StopAfterOne(L.Callback):
    """As if the process had ended there."""

    def on_train_epoch_end(self, trainer, pl_module):
        trainer.should_stop = True
