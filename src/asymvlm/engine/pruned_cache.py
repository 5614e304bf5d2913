"""Caches of pruned prompts, which report the length of the whole prompt.

Such a cache reports the length of the whole prompt, and where its entries lie among the columns
that masks are made for. So whatever goes on with it, `generate` or a loop written by hand, counts
as it would without pruning: positions, masks, `max_length`, what callbacks are given. What it has
to know for that is an attribute of the cache: a copy has it as well, and it goes when the cache
goes.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..typing import Int64
from .prompt_columns import PromptColumns


@dataclass
class PromptState:
    """A pruned prompt, as the caller knows it and as the LLM read it. S is its padded length."""

    length: int  # S
    # What is left, by the layer from which on, ascending; the first from layer 0 on.
    columns: list[PromptColumns]
    # Position ids of families with several axes, which a further turn goes on from, and the last
    # real column of each row.
    positions: Int64[Tensor, "P B S"] | None = None
    last: Int64[Tensor, "B"] | None = None
    # Whether masks of the caller fit the entries: padding is on the left of the prompt alone.
    left_padded: bool = True
    # What a family has to know of each row in later steps: `[B, ...]` each.
    family: tuple[Tensor, ...] = ()
    # Whether layers outside of any context are given masks even where nothing is hidden.
    needs_masks: bool = False
    # Whether a forward pass is under way whose masks are made to fit.
    fitted: bool = False

    def columns_at(self, layer: int) -> PromptColumns:
        """Find what a layer reads."""
        return [item for item in self.columns if item.layer <= layer][-1]

    def dropped(self, layer: int = 0) -> int:
        """Count the prompt's columns that a layer does not read."""
        return self.length - self.columns_at(layer).index.shape[1]

    @functools.cached_property
    def reads_all(self) -> bool:
        """Return whether the first layer has read all columns, each where it was."""
        index = self.columns[0].index
        every = torch.arange(self.length, device=index.device).expand(len(index), -1)
        return torch.equal(index, every)

    @functools.cached_property
    def is_whole(self) -> bool:
        """Return whether the LLM has read all columns, padding where it was."""
        return len(self.columns) == 1 and self.reads_all and not self.family

    @functools.cached_property
    def has_gaps(self) -> bool:
        """Return whether entries are padding, or not where a caller's mask says."""
        if self.is_whole:
            return False
        real = all(bool(item.real.all()) for item in self.columns)
        return not (real and self.left_padded and not self.family)

    def following(self, steps: Int64[Tensor, "*B q"]) -> Int64[Tensor, "P B q"] | None:
        """Compute positions of columns `steps` behind the prompt's last; None for one axis."""
        if self.positions is None or self.last is None:
            return None
        last = self.last.expand(len(self.positions), -1)[..., None]
        return self.positions.gather(-1, last) + steps

    def rows(self, chosen: Int64[Tensor, "n"]) -> PromptState:
        """Follow a new choice of the batch's rows."""

        def picked(table: Tensor) -> Tensor:
            return table[chosen.to(table.device)]

        place = self.columns[0].index.device
        positions = self.positions
        return replace(
            self,
            columns=[item.rows(chosen.to(place)) for item in self.columns],
            positions=None if positions is None else positions[:, chosen.to(positions.device)],
            last=None if self.last is None else picked(self.last),
            family=tuple(map(picked, self.family)),
        )

    def cut(self, length: int) -> PromptState:
        """Take back the columns from `length` on of a whole prompt."""
        positions, last = self.positions, self.last
        real = self.columns[0].real[:, :length]
        return replace(
            self,
            length=length,
            columns=[PromptColumns.whole(real)],
            positions=None if positions is None else positions[..., :length],
            last=None if last is None else last.clamp_max(length - 1),
            left_padded=is_left_padded(real) if length else True,
        )

    def fitted_mask(self, mask: Tensor | None, seen: int, new: int) -> Int64[Tensor, "B T"]:
        """Make the mask of the first layer's entries and of `new` tokens behind `seen` columns.

        `mask` is the caller's, `[B, seen + new]`, 0 on padding, or None where nothing is.
        """
        columns = self.columns[0]
        after = seen + new - self.length
        if mask is None:
            tail = columns.real.new_ones(len(columns.real), after)
        elif mask.shape == (len(columns.real), seen + new):
            mask = mask.to(columns.real.device).bool()
            tail = mask[:, self.length :]
            seen_by_caller = mask[:, : self.length].gather(1, columns.index)
            return torch.cat([columns.real & seen_by_caller, tail], dim=1).long()
        else:
            raise ValueError(
                f"attention_mask: {tuple(mask.shape)} must be {(len(columns.real), seen + new)}, "
                "[batch, tokens seen and new]"
            )
        return torch.cat([columns.real, tail], dim=1).long()


class _Pruned:
    """Mixed into the class of a cache by `mark_pruned`."""

    prompt: PromptState

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (type(self).__mro__[2],), self.__dict__

    def get_seq_length(self, layer_idx: int = 0) -> int:
        own: Any = super()
        return own.get_seq_length(layer_idx) + self.prompt.dropped(layer_idx)

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        own: Any = super()
        length, offset = own.get_mask_sizes(query_length, layer_idx)
        return length, offset + self.prompt.dropped(layer_idx)

    def update(self, key_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        own: Any = super()
        masked = key_states.shape[-2] > 1 or self.prompt.needs_masks
        several = masked and len(self.prompt.columns) > 1
        if not self.prompt.fitted and (several or self.prompt.has_gaps):
            raise ValueError(
                "past_key_values: this cache was pruned, and its rows or layers hold different "
                "numbers of entries; go on with it inside asymvlm.prune"
            )
        return own.update(key_states, *args, **kwargs)

    def crop(self, tokens_to_remove: int) -> None:
        own: Any = super()
        length = int(self.get_seq_length())
        # Some versions of transformers take the length that is left, as a positive number.
        left = tokens_to_remove if tokens_to_remove > 0 else length + tokens_to_remove
        if left < self.prompt.length and not self.prompt.is_whole:
            raise ValueError(
                f"past_key_values: {length - left} tokens cannot be taken back from a cache of "
                f"{length}, {self.prompt.length} of them a pruned prompt; start anew"
            )
        own.crop(left - length)
        if left < self.prompt.length:
            self.prompt = self.prompt.cut(left)

    def reset(self) -> None:
        own: Any = super()
        own.reset()
        unmark(self)

    def reorder_cache(self, beam_idx: Int64[Tensor, "n"]) -> None:
        own: Any = super()
        own.reorder_cache(beam_idx)
        self.prompt = self.prompt.rows(beam_idx)

    def batch_repeat_interleave(self, repeats: int) -> None:
        own: Any = super()
        own.batch_repeat_interleave(repeats)
        batch = len(self.prompt.columns[0].real)
        self.prompt = self.prompt.rows(torch.arange(batch).repeat_interleave(repeats))

    def batch_select_indices(self, indices: Int64[Tensor, "n"]) -> None:
        own: Any = super()
        own.batch_select_indices(indices)
        self.prompt = self.prompt.rows(indices)


@functools.cache
def _pruned_class(kind: type) -> type:
    return type(f"Pruned{kind.__name__}", (_Pruned, kind), {"__module__": __name__})


def _unpickled(kind: type) -> Any:
    pruned: Any = _pruned_class(kind)
    return pruned.__new__(pruned)


def mark_pruned(cache: Any, state: PromptState) -> None:
    """Make a cache, just filled by a pruned prefill, report the whole prompt's length."""
    cache.prompt = state
    kind: Any = type(cache)
    cache.__class__ = _pruned_class(kind)


def is_left_padded(mask: Tensor) -> bool:
    """Return whether a prompt's mask has zeros on the left alone."""
    return bool((mask.long().diff(dim=1) >= 0).all()) and bool(mask[:, -1].all())


def has_entries(cache: Any) -> bool:
    """Return whether anything was read into a cache."""
    return cache is not None and int(cache.get_seq_length()) > 0


def unmark(cache: Any) -> None:
    """Give the cache its own class back."""
    cache.__class__ = type(cache).__mro__[2]
    del cache.prompt


def prompt_state(cache: Any) -> PromptState | None:
    """Look up what a cache knows of a pruned prompt; None for any other cache."""
    return cache.prompt if isinstance(cache, _Pruned) else None


def cache_class(cache: Any) -> type:
    """Return the class of a cache, without what pruning adds."""
    return type(cache).__mro__[2] if isinstance(cache, _Pruned) else type(cache)
