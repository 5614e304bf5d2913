"""A prefill that loses vision tokens between two LLM layers, and the steps on its cache."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..backbone import Kept
from ..backbone.attention_probs import attention_probs, causal_rows
from ..methods.base import LayerView, Tokens
from ..selectors import left_pack
from ..typing import Bool, Float, Int64
from .token_views import TokenViews


@dataclass
class Stage:
    """What is left from a layer on: columns of the prompt, ascending, padded on the left."""

    layer: int
    rows: Int64[Tensor, "B K"]
    real: Bool[Tensor, "B K"]


class LayerPruner:
    """Prunes what decoder layers read, by plans of tokens left from which layer on.

    `select` makes the choice for one sample. Every `copies` rows of the batch are beams of one
    sample: they keep the same tokens, since their caches change places.
    """

    def __init__(
        self,
        views: TokenViews,
        plans: list[dict[int, int]],
        copies: int,
        select: Callable[[Tokens, int], Kept],
    ) -> None:
        self.views, self.plans, self.copies, self.select = views, plans, copies, select
        self.layers = {layer for plan in plans for layer in plan}
        layout = views.layout
        valid, self._vision, self._text = (
            mask.repeat_interleave(copies, dim=0)
            for mask in (layout.attention_mask.bool(), layout.vision, layout.text)
        )
        self.length = valid.shape[1]
        self.stages = [
            Stage(0, torch.arange(self.length, device=valid.device).expand_as(valid), valid)
        ]
        self.kept = [Kept(torch.arange(count, device=valid.device)) for count in layout.counts()]
        self.done = False
        self._last_attention: tuple[Tensor, Tensor, Tensor | None, float | None] | None = None

    def record(
        self, module: Any, query: Tensor, key: Tensor, mask: Tensor | None, scaling: float | None
    ) -> None:
        """Keep the attention inputs of the layer below a stage; called by every layer."""
        if module.layer_idx + 1 in self.layers:
            self._last_attention = query, key, mask, scaling

    def before(
        self, layer: int, hidden: Float[Tensor, "B S D"], kwargs: dict[str, Any]
    ) -> tuple[Tensor, dict[str, Any]]:
        """Return what a layer reads instead of `hidden` and `kwargs`."""
        if not self.done and layer in self.layers:
            hidden = self._drop(layer, hidden)
        stage = [item for item in self.stages if item.layer <= layer][-1]
        if stage.layer == 0:
            return hidden, kwargs
        cache = kwargs.get("past_key_values")
        cached = int(cache.layers[layer].get_seq_length()) if self.done and cache is not None else 0
        mask = self._mask(stage, kwargs.get("attention_mask"), hidden.shape[1], cached)
        changed = {**kwargs, "attention_mask": mask}
        if not self.done:
            tables = kwargs["position_embeddings"]
            changed["position_embeddings"] = tuple(_rows(table, stage.rows) for table in tables)
            positions = kwargs.get("position_ids")
            if positions is not None:
                changed["position_ids"] = _rows(positions[..., None], stage.rows)[..., 0]
        return hidden, changed

    def after_last(self, hidden: Float[Tensor, "B K D"]) -> Float[Tensor, "B S D"]:
        """Scatter the last layer's output to the prompt's columns, 0 where tokens were dropped."""
        stage, prefill = self.stages[-1], not self.done
        self.done, self._last_attention = True, None
        if stage.layer == 0 or not prefill:
            return hidden
        full = hidden.new_zeros(len(hidden), self.length, hidden.shape[-1])
        valid = hidden * stage.real[..., None]
        return full.scatter_add(1, stage.rows[..., None].expand_as(hidden), valid)  # filling adds 0

    def _drop(self, layer: int, hidden: Float[Tensor, "B S D"]) -> Float[Tensor, "B K D"]:
        stage = self.stages[-1]
        vision = self._vision.gather(1, stage.rows) & stage.real
        text = self._text.gather(1, stage.rows) & stage.real
        stay, fused = stage.real.clone(), []
        for row in range(len(hidden)):
            sample, copy = divmod(row, self.copies)
            places = vision[row].nonzero().squeeze(-1)
            count = self.plans[sample].get(layer, len(places))
            if count >= len(places):
                continue
            if copy == 0:
                words = text[row].nonzero().squeeze(-1)
                chosen = self._select(sample, row, hidden[row], places, words, count)
                self.kept[sample] = Kept(self.kept[sample].index[chosen.index], None, chosen.scores)
            stay[row, places] = False
            stay[row, places[chosen.index]] = True
            if chosen.features is not None:
                fused.append((row, places[chosen.index], chosen.features))
        if torch.equal(stay, stage.real):
            return hidden  # nothing leaves, so the layers run as they always do
        if fused:
            hidden = hidden.clone()
        for row, places, features in fused:
            hidden[row, places] = features.to(hidden)
        columns, valid = left_pack(stay)
        self.stages.append(Stage(layer, stage.rows.gather(1, columns), valid))
        return hidden.gather(1, columns[..., None].expand(-1, -1, hidden.shape[-1]))

    def _select(
        self, sample: int, row: int, states: Tensor, vision: Tensor, text: Tensor, count: int
    ) -> Kept:
        assert self._last_attention is not None, "attention below a stage is recorded"
        query, key, mask, scaling = self._last_attention
        bias = None if mask is None else mask[min(row, len(mask) - 1)]
        keys = key[row].transpose(0, 1).flatten(1)

        def attention(rows: slice | Tensor) -> Float[Tensor, "H l n"]:
            picked = text[rows]
            seen = causal_rows(picked, key.shape[2]) if bias is None else bias[:, picked]
            probs = attention_probs(query[row][None, :, picked], key[row][None], seen, scaling)
            return probs[0, ..., vision]

        view = LayerView(keys[vision], keys[text], attention)
        tokens = self.views(
            sample, states[vision], states[text], self.kept[sample].index, lambda: view
        )
        return self.select(tokens, count)

    def _mask(self, stage: Stage, mask: Tensor | None, steps: int, cached: int) -> Tensor | None:
        """Select the remaining columns of the model's mask; make one where samples differ."""
        batch, kept = stage.rows.shape
        keys = cached + steps if self.done else kept
        real = torch.cat([stage.real, stage.real.new_ones(batch, keys - kept)], dim=1)
        if mask is None and bool(real.all()):
            return None
        if mask is None:
            step = torch.arange(steps, device=real.device)
            allowed = (torch.arange(keys, device=real.device) <= step[:, None] + cached)[None, None]
            return _without(allowed.expand(batch, 1, -1, -1), real, not self.done)
        later = torch.arange(mask.shape[-1], device=real.device)[mask.shape[-1] - (keys - kept) :]
        columns = torch.cat([stage.rows, later.expand(batch, -1)], dim=1)
        if mask.ndim == 2:
            return mask.gather(1, columns) * real
        mask = mask.expand(batch, -1, -1, -1)
        if not self.done:
            rows = stage.rows[:, None, :, None].expand(-1, mask.shape[1], -1, mask.shape[3])
            mask = mask.gather(2, rows)
        mask = mask.gather(3, columns[:, None, None].expand(-1, *mask.shape[1:3], -1))
        return _without(mask, real, not self.done)


def _without(mask: Tensor, real: Bool[Tensor, "B K"], square: bool) -> Tensor:
    """Hide padding in a mask; padding sees itself, since an empty row has no softmax."""
    hide = ~real[:, None, None]
    if square:
        hide = hide & ~torch.eye(real.shape[1], dtype=torch.bool, device=real.device)
    if mask.dtype != torch.bool:
        return mask.masked_fill(hide, torch.finfo(mask.dtype).min)
    mask = mask & ~hide
    return mask | torch.eye(real.shape[1], dtype=torch.bool, device=real.device) if square else mask


def _rows(
    table: Float[Tensor, "*p B S d"], rows: Int64[Tensor, "B K"]
) -> Float[Tensor, "*p B K d"]:
    """Select rows of each sample; the batch dimension may be 1."""
    table = table.expand(*table.shape[:-3], len(rows), *table.shape[-2:])
    return table.gather(
        -2, rows[..., None].expand(*table.shape[:-2], rows.shape[1], table.shape[-1])
    )
