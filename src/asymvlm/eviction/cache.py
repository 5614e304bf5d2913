"""A cache layer that evicts: `DynamicLayer` until something is evicted, then reused slots.

Attention does not mind in which order its keys stand, since their positions are in them. So what
leaves only frees its slot, and the next token of the row is written there: nothing is moved while
decoding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from ..engine.pruned_cache import cache_class
from ..selectors import left_pack, tie_groups
from ..typing import Bool, Float, Int64
from .base import Evictor, NewEntries
from .budget import Budget
from .entries import Entries
from .new_tokens import NewTokens
from .report import LayerCounts

_MOST_POSITIONS = 2**32


class EvictingLayer(DynamicLayer):
    """One full-attention layer. A step is `expect`, `update`, `register`, attention, `evict`.

    To the model it looks as if nothing had left: its length and its masks are those of all tokens
    seen.
    """

    is_croppable = False
    keys: Tensor  # type: ignore[assignment]  # there from the first update on
    values: Tensor  # type: ignore[assignment]

    def __init__(self, made_for: str, number: int) -> None:
        super().__init__()
        self.number = number
        self.made_for = made_for  # the policy's name: scores of one mean nothing to another
        self._empty()

    def _empty(self) -> None:
        self.entries: Entries | None = None
        self.counts = LayerCounts()
        self.seen = 0  # tokens per row, padding included
        self.has_evicted = False  # whether anything has left
        self._num_valid: list[int] = []  # valid slots per row
        self._expected = False
        self._slot: Int64[Tensor, "B 1"] | None = None
        self._written: tuple[Tensor, Tensor] | None = None

    def expect(self, update: bool = True) -> None:
        """Announce an `update` of a call that `register` and `evict` follow, or take that back."""
        self._expected = update

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Return keys and values of all that the new tokens attend to.

        Raises ValueError outside of `asymvlm.evict`.
        """
        if not self._expected:
            raise ValueError(
                "past_key_values: this cache loses entries and is understood by asymvlm.evict "
                "alone; go on with it in there"
            )
        self._expected, self._slot, self._written = False, None, (key_states, value_states)
        self.seen += key_states.shape[-2]
        if (
            not self.has_evicted
            or key_states.shape[-2] > 1
            or max(self._num_valid) == self.keys.shape[-2]
        ):
            return super().update(key_states, value_states)
        assert self.entries is not None
        self._slot = self.entries.valid.view(torch.uint8).argmin(-1, keepdim=True)
        for held, new in ((self.keys, key_states), (self.values, value_states)):
            held.scatter_(2, self._slot[:, None, :, None].expand_as(new), new)
        return self.keys, self.values

    def register(self, new: NewTokens, policy: Evictor, mask: Tensor | None) -> Tensor | None:
        """Register the tokens just written; returns the mask for this step's attention."""
        assert self._written is not None, "a layer is updated before it attends"
        (keys, values), self._written = self._written, None
        score = policy.initial_score(NewEntries(self.number, keys, values, new.position))
        window = keys.new_zeros(*new.position.shape, policy.window, dtype=torch.float32)
        entries = Entries(keys, new.real, new.position, new.text_position, score, window)
        if self.entries is None:
            self.entries = entries.changed(self.keys, torch.clone)
        elif self._slot is None:
            self.entries = self.entries.and_then(self.keys, entries)
        else:
            self.entries.write(self._slot, entries)
        self._num_valid = [
            count + real
            for count, real in zip(
                self._num_valid or [0] * len(new.counts), new.counts, strict=True
            )
        ]
        self.counts.add_text(new.texts)
        return self._mask(mask, new.real.shape[1]) if self.has_evicted else mask

    def _mask(self, mask: Tensor | None, new: int) -> Tensor | None:
        assert self.entries is not None
        valid = self.entries.valid[:, None, None]
        if new == 1:
            return None if min(self._num_valid) == valid.shape[-1] else valid
        assert mask is not None, "several tokens behind a cache come with a mask"
        return torch.cat(
            [
                valid[..., :-new].expand(-1, 1, new, -1),
                mask[..., -new:].expand(len(valid), 1, new, new),
            ],
            dim=-1,
        )

    def evict(self, new: NewTokens, policy: Evictor, budget: Budget) -> None:
        """Evict what is above the budget, now that this step's tokens have attended to it."""
        entries, steps = self.entries, new.real.shape[1]
        assert entries is not None
        if steps == 1:
            self.counts.peak = max(self.counts.peak, *self.counts.held)
        held = self.counts.held
        texts_over = [max(0, count - budget.text) for count in held]
        visions_over = [0] * len(held)
        if budget.vision is not None:
            visions = [count - text for count, text in zip(self._num_valid, held, strict=True)]
            visions_over = [max(0, count - budget.vision) for count in visions]
        if any(texts_over):
            position = entries.text_position
            may = (position >= budget.sinks) & (position < new.text_seen - budget.recent)
            self._evict_lowest(policy.rank(entries), may, texts_over, new)
            self.counts.held = [n - gone for n, gone in zip(held, texts_over, strict=True)]
        if any(visions_over):
            may = entries.valid & ~entries.text
            self._evict_lowest(policy.rank(entries), may, visions_over, new)
        if steps > 1 and self.has_evicted:
            self._compact()
        self.counts.update_peak(self.keys.nbytes + self.values.nbytes)

    def _evict_lowest(
        self,
        order: Float[Tensor, "B K"],
        may: Bool[Tensor, "B K"],
        counts: list[int],
        new: NewTokens,
    ) -> None:
        assert self.entries is not None
        slots = lowest(order, may, self.entries.position, max(counts))
        evicted_mask = None
        if min(counts) < max(counts):
            evicted_mask = (
                torch.arange(slots.shape[1], device=slots.device)
                < torch.tensor(counts, device=slots.device)[:, None]
            )
        self.counts.record_evicted(
            self.entries.position.gather(1, slots), evicted_mask, new.newest, self.seen
        )
        self.entries.free(slots, evicted_mask)
        self._num_valid = [
            count - gone for count, gone in zip(self._num_valid, counts, strict=True)
        ]
        self.has_evicted = True

    def _compact(self) -> None:
        """Give up the slots that no row needs."""
        assert self.entries is not None
        slots, _ = left_pack(self.entries.valid)
        self.keys, self.values = (
            torch.take_along_dim(held, slots[:, None, :, None], 2)
            for held in (self.keys, self.values)
        )
        self.entries = self.entries.at(self.keys, slots)

    def get_seq_length(self) -> int:
        """Return the number of tokens seen."""
        return self.seen

    def crop(self, tokens_to_remove: int) -> None:
        """Raise ValueError for any token: what was evicted for it cannot come back."""
        if tokens_to_remove:
            raise ValueError(
                "past_key_values: tokens cannot be taken back from a cache that loses entries; "
                "start anew"
            )

    def reset(self) -> None:
        super().reset()
        self._empty()

    def reorder_cache(self, beam_idx: Int64[Tensor, "n"]) -> None:
        super().reorder_cache(beam_idx)  # type: ignore[arg-type]
        self._reordered(beam_idx)

    def batch_repeat_interleave(self, repeats: int) -> None:
        super().batch_repeat_interleave(repeats)
        self._reordered(torch.arange(len(self._num_valid)).repeat_interleave(repeats))

    def batch_select_indices(self, indices: Int64[Tensor, "n"]) -> None:
        super().batch_select_indices(indices)
        self._reordered(indices)

    def _reordered(self, rows: Int64[Tensor, "n"]) -> None:
        if self.entries is None:
            return
        rows = rows.to(self.keys.device)
        self.entries = self.entries.changed(self.keys, lambda item: item[rows])
        self._num_valid = [self._num_valid[row] for row in rows.tolist()]
        self.counts.reordered(rows)


def make_evicting(cache: Any, config: Any, layers: Sequence[int], policy_name: str) -> None:
    """Replace the full-attention `layers` of an empty cache by evicting ones.

    A cache that has them already is left as it is. Raises ValueError for other caches, and for one
    whose entries another policy has scored.
    """
    if cache_class(cache) is not DynamicCache or cache.offloading:
        raise ValueError(
            f"past_key_values: a {type(cache).__name__} that is static or offloaded cannot lose "
            "entries; leave it out"
        )
    found = {layer.made_for for layer in cache.layers if isinstance(layer, EvictingLayer)}
    if found and found != {policy_name}:
        raise ValueError(
            f"past_key_values: this cache was scored by {found.pop()}; go on with it under that, "
            "or start anew"
        )
    if found:
        return
    if cache.get_seq_length() > 0:
        raise ValueError(
            "past_key_values: this cache was begun outside of asymvlm.evict; begin the "
            "conversation inside"
        )
    own: list[Any] = DynamicCache(config=config).layers
    for number in layers:
        own[number] = EvictingLayer(policy_name, number)
    cache.layers = own
    cache.layer_class_to_replicate = None


def lowest(
    order: Float[Tensor, "B K"],
    may: Bool[Tensor, "B K"],
    position: Int64[Tensor, "B K"],
    count: int,
) -> Int64[Tensor, "B n"]:
    """Find the slots of the `count` lowest entries of those that `may` be evicted.

    Equal is what `selectors.tie_groups` calls so among a row's entries that may leave. A row with
    fewer of them than `count` has others behind them.
    """
    group = tie_groups(-order.masked_fill(~may, torch.inf))
    # One whole number per entry, no two alike, so that one step of decoding and a long prompt take
    # the same path.
    place = group * _MOST_POSITIONS + position
    return place.masked_fill(~may, torch.iinfo(torch.int64).max).topk(count, largest=False).indices
