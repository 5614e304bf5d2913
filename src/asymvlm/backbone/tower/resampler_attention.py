"""Attention of a resampler's latents to the patches that they mix."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ...engine import hooked
from ...typing import Float
from ..attention_probs import attention_probs


class ResamplerWatcher:
    """Records how much each latent of the last resampling layer attends to each patch.

    Mean over heads; rows sum to 1.
    """

    def __init__(self, heads: int) -> None:
        self.heads = heads
        self._queries: list[Tensor] = []
        self._keys: list[Tensor] = []

    def note_query(self, module: nn.Module, args: Any, kwargs: Any, out: Tensor) -> None:
        self._queries.append(out.detach())

    def note_key(self, module: nn.Module, args: Any, kwargs: Any, out: Tensor) -> None:
        self._keys.append(out.detach())

    def weights(self, patches: int) -> Float[Tensor, "pictures latents p"]:
        """Attention to the first `patches` keys, since some resamplers let latents read each other
        too.
        """
        query, key = (
            torch.cat(parts).unflatten(-1, (self.heads, -1)).transpose(1, 2).float()
            for parts in (self._queries, self._keys)
        )
        mass = attention_probs(query, key, None, None)[..., :patches].mean(1)
        return mass / mass.sum(-1, keepdim=True)


@contextmanager
def watching_resampler(model: Any) -> Iterator[ResamplerWatcher | None]:
    """Record a resampler while pictures are encoded; None for models without a known one."""
    found = [part for name, part in model.base_model.named_modules() if _is_resampling(name, part)]
    if not found:
        yield None
        return
    last = found[-1]
    query, key = (
        getattr(last, long, None) or getattr(last, short)
        for long, short in (("query", "q_proj"), ("key", "k_proj"))
    )
    watcher = ResamplerWatcher(getattr(last, "num_attention_heads", None) or last.n_heads)
    with hooked(query, after=watcher.note_query), hooked(key, after=watcher.note_key):
        yield watcher


def _is_resampling(name: str, part: Any) -> bool:
    """Return whether a module is the Q-Former's cross-attention or a plain Flamingo perceiver."""
    if name.endswith("crossattention.attention"):
        return True
    return type(part).__name__ == "IdeficsPerceiverAttention" and not part.qk_layer_norms
