"""A prefill that loses vision tokens between two LLM layers, and what later steps read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ..backbone import Kept
from ..backbone.attention_probs import attention_probs, causal_rows
from ..engine import AttentionInputs, PromptColumns
from ..methods.base import LayerView, Tokens
from ..typing import Bool, Float, Int64
from .own_attention import own_attention
from .token_views import TokenViews


class LayerPruner:
    """Prunes what the decoder layers of one prefill read, by plans of tokens left from which layer.

    `mask` is 0 on padding. `select` makes the choice for one sample. Where `mask` has several rows
    for each sample, rows side by side are its beams: they keep the same tokens, since their caches
    change places. Columns behind the prompts all stay.
    """

    def __init__(
        self,
        views: TokenViews,
        plans: list[dict[int, int]],
        mask: Int64[Tensor, "B S"],
        select: Callable[[Tokens, int], Kept],
    ) -> None:
        self.views, self.plans, self.select = views, plans, select
        self.copies = len(mask) // len(plans)
        self.layers = {layer for plan in plans for layer in plan}
        layout = views.layout
        self.length = mask.shape[1]
        behind = self.length - layout.vision.shape[1]
        self._vision, self._text = (
            torch.nn.functional.pad(item.repeat_interleave(self.copies, dim=0), (0, behind))
            for item in (layout.vision, layout.text)
        )
        self.columns = [PromptColumns.whole(mask)]
        self.kept = [Kept(torch.arange(count, device=mask.device)) for count in layout.counts()]
        self._last_attention: AttentionInputs | None = None

    def record(self, given: AttentionInputs) -> None:
        """Keep the attention inputs of the layer below one that prunes; called by every layer."""
        below: Any = given.module.layer_idx
        if below + 1 in self.layers:
            self._last_attention = given

    def before(
        self, layer: int, hidden: Float[Tensor, "B S D"], kwargs: Mapping[str, Any]
    ) -> tuple[Tensor, Mapping[str, Any]]:
        """Return what a layer reads instead of `hidden` and `kwargs`."""
        if layer in self.layers:
            hidden = self._drop(layer, hidden, kwargs)
        return hidden, self._cut(kwargs)

    def _cut(self, kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        """Cut a layer's arguments down to the columns that are left."""
        columns = self.columns[-1]
        if columns.layer == 0:
            return kwargs
        mask = prefill_mask(columns, kwargs.get("attention_mask"))
        tables = tuple(map(columns.gather_states, kwargs["position_embeddings"]))
        changed = {**kwargs, "attention_mask": mask, "position_embeddings": tables}
        if kwargs.get("position_ids") is not None:
            changed["position_ids"] = columns.gather(kwargs["position_ids"])
        return changed

    def after_last(self, hidden: Float[Tensor, "B K D"]) -> Float[Tensor, "B S D"]:
        """Put the last layer's output into the prompt's columns, 0 where tokens were dropped."""
        self._last_attention = None
        if self.columns[-1].layer == 0:
            return hidden
        return self.columns[-1].scatter_states(hidden, self.length)

    def _drop(
        self, layer: int, hidden: Float[Tensor, "B S D"], kwargs: Mapping[str, Any]
    ) -> Float[Tensor, "B K D"]:
        before = self.columns[-1]

        @cache
        def own() -> AttentionInputs:
            module = self.views.backbone.decoder.layers[layer]
            return own_attention(module, hidden, self._cut(kwargs))

        vision = before.gather(self._vision) & before.real
        text = before.gather(self._text) & before.real
        stay, fused = before.real.clone(), []
        for row in range(len(hidden)):
            sample, copy = divmod(row, self.copies)
            places = vision[row].nonzero().squeeze(-1)
            count = self.plans[sample].get(layer, len(places))
            if count >= len(places):
                continue
            if copy == 0:
                words = text[row].nonzero().squeeze(-1)
                view = self._view(row, places, words, own)
                tokens = self.views(
                    sample,
                    hidden[row, places],
                    hidden[row, words],
                    self.kept[sample].index,
                    lambda view=view: view,  # type: ignore[misc]
                )
                chosen = self.select(tokens, count)
                self.kept[sample] = Kept(self.kept[sample].index[chosen.index], None, chosen.scores)
            stay[row, places] = False
            stay[row, places[chosen.index]] = True
            if chosen.features is not None:
                fused.append((row, places[chosen.index], chosen.features))
        if torch.equal(stay, before.real):
            return hidden  # nothing leaves, so the layers run as they always do
        if fused:
            hidden = hidden.clone()
        for row, places, features in fused:
            hidden[row, places] = features.to(hidden)
        self.columns.append(before.narrowed(stay, layer))
        return PromptColumns.of(stay).gather_states(hidden)

    def _view(
        self, row: int, vision: Tensor, text: Tensor, own: Callable[[], AttentionInputs]
    ) -> LayerView:
        assert self._last_attention is not None, "attention below a stage is recorded"
        below = self._last_attention
        keys = below.key[row].transpose(0, 1).flatten(1)
        return LayerView(
            keys[vision],
            keys[text],
            lambda rows: _attention(below, row, text[rows], vision),
            lambda rows: _attention(own(), row, text[rows], vision),
            self.views.final_norm,
        )


def _attention(
    given: AttentionInputs, row: int, rows: Int64[Tensor, "l"], vision: Int64[Tensor, "n"]
) -> Float[Tensor, "H l n"]:
    """Attention of some columns of a row of the batch to its vision tokens."""
    mask, key = given.mask, given.key
    bias = None if mask is None else mask[min(row, len(mask) - 1)]
    seen = causal_rows(rows, key.shape[2]) if bias is None else bias[:, rows]
    probs = attention_probs(given.query[row][None, :, rows], key[row][None], seen, given.scaling)
    return probs[0, ..., vision]


def prefill_mask(columns: PromptColumns, mask: Tensor | None) -> Tensor | None:
    """Pick rows and columns of the model's mask of a prompt; make one where samples differ."""
    real, count = columns.real, columns.real.shape[1]
    if mask is None:
        if bool(real.all()):
            return None
        step = torch.arange(count, device=real.device)
        return _without((step <= step[:, None])[None, None].expand(len(real), 1, -1, -1), real)
    if mask.ndim == 2:
        return columns.gather(mask) * real
    mask = mask.expand(len(real), -1, -1, -1)
    rows = columns.index[:, None, :, None].expand(-1, mask.shape[1], -1, mask.shape[3])
    return _without(_columns(columns, mask.gather(2, rows), 0), real)


def step_mask(
    columns: PromptColumns, mask: Tensor | None, steps: int, cached: int
) -> Tensor | None:
    """Pick columns of the model's mask of `steps` tokens behind a layer's `cached` entries."""
    real, after = columns.real, cached + steps - columns.real.shape[1]
    seen = torch.cat([real, real.new_ones(len(real), after)], dim=1)
    if mask is None:
        if bool(real.all()):
            return None
        step = torch.arange(steps, device=real.device)[:, None] + cached
        allowed = (torch.arange(cached + steps, device=real.device) <= step)[None, None]
        return _hidden(allowed.expand(len(real), 1, -1, -1), ~seen[:, None, None])
    if mask.ndim == 2:
        later = mask[:, mask.shape[1] - after :]
        return torch.cat([columns.gather(mask), later], dim=1) * seen
    mask = mask.expand(len(real), -1, -1, -1)
    return _hidden(_columns(columns, mask, after), ~seen[:, None, None])


def _columns(columns: PromptColumns, mask: Tensor, after: int) -> Tensor:
    """Pick the columns of a `[B, H, q, T]` mask, of the prompt and of `after` tokens behind it."""
    index = columns.index[:, None, None].expand(-1, *mask.shape[1:3], -1)
    later = mask[..., mask.shape[-1] - after :] if after else mask[..., :0]
    return torch.cat([mask.gather(3, index), later], dim=-1)


def _without(mask: Tensor, real: Bool[Tensor, "B K"]) -> Tensor:
    """Hide padding in a prompt's mask; padding sees itself, since an empty row has no softmax."""
    itself = torch.eye(real.shape[1], dtype=torch.bool, device=real.device)
    mask = _hidden(mask, ~real[:, None, None] & ~itself)
    return mask | itself if mask.dtype == torch.bool else mask


def _hidden(mask: Tensor, hide: Bool[Tensor, "B 1 *q K"]) -> Tensor:
    if mask.dtype == torch.bool:
        return mask & ~hide
    return mask.masked_fill(hide, torch.finfo(mask.dtype).min)
