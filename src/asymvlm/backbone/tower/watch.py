"""Record attention, keys and states of the vision tower's feature layer, and of the layer above."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from ...engine import hooked, register
from ...typing import Float
from ..attention_probs import attention_probs
from ..family_spec import family_spec
from .patch_merging import Patches, on_tokens
from .resampler_attention import ResamplerWatcher, watching_resampler

_NAME = "asymvlm_tower"
_WATCHER = "asymvlm_watcher"
_TOWERS = ("vision_tower", "vision_model", "visual")  # what families call it
_encoding: WeakKeyDictionary[nn.Module, threading.RLock] = WeakKeyDictionary()
# Queries, keys, mask and scaling of a call of the attention function.
_Attended = tuple[Tensor, Tensor, Tensor | None, float | None]
_ROWS = 512  # of attention at a time, so that towers without a CLS need no P x P matrix


@dataclass(frozen=True)
class TowerView:
    """Values of the tower's feature layer, averaged over each vision token's patches."""

    # From CLS, or where there is none received on average; mean over heads.
    attention: Float[Tensor, "n"]
    # The same with all heads read as one, of full width, in the layer that reads the states; in the
    # feature layer itself where there is none above.
    single_head: Callable[[], Float[Tensor, "n"]]
    keys: Float[Tensor, "n C"]  # of all heads, side by side
    states: Float[Tensor, "n E"]  # what the layer gives: the features before the projector
    heads: int
    # Of the layer that `single_head` is of, where that is the one above.
    keys_above: Callable[[], Float[Tensor, "n C"]] | None = None

    def single_head_keys(self) -> Float[Tensor, "n C"]:
        """Keys of the layer that `single_head` is of."""
        return self.keys if self.keys_above is None else self.keys_above()

    def of(self, rows: slice | Tensor) -> TowerView:
        """Select some of the tokens."""
        return TowerView(
            self.attention[rows],
            lambda: self.single_head()[rows],
            self.keys[rows],
            self.states[rows],
            self.heads,
            lambda: self.single_head_keys()[rows],
        )


def join_views(views: Sequence[TowerView]) -> TowerView:
    """Concatenate several views of one tower."""
    attention, keys, states = (
        torch.cat([getattr(view, part) for view in views])
        for part in ("attention", "keys", "states")
    )
    return TowerView(
        attention,
        lambda: torch.cat([view.single_head() for view in views]),
        keys,
        states,
        views[0].heads,
        lambda: torch.cat([view.single_head_keys() for view in views]),
    )


class TowerWatcher:
    """Records queries, keys and states of one layer while pictures are encoded.

    And queries and keys of the layer `above`, which reads those states.

    `cls` says what the first patch is: "left out" of the features, "kept" among them, or None where
    there is no CLS.
    """

    def __init__(self, model: Any, cls: str | None, above: nn.Module | None = None) -> None:
        self.model, self.cls, self.above = model, cls, above
        self.calls: list[_Attended] = []
        self.calls_above: list[_Attended] = []
        self.states: list[Float[Tensor, "pictures p E"]] = []
        self.pack: Callable[[Tensor], Tensor] | None = None
        self.resampler: ResamplerWatcher | None = None

    def note(self, module: nn.Module, query: Tensor, key: Tensor, *given: Any) -> None:
        """Record one call of the attention function; both are `[pictures, heads, patches, d]`."""
        calls = self.calls_above if module is self.above else self.calls
        calls.append((query.detach(), key.detach(), *given))

    def note_states(self, module: nn.Module, args: Any, kwargs: Any, out: Any) -> None:
        """Record the layer's output; a forward hook."""
        self.states.append((out[0] if isinstance(out, tuple) else out).detach())

    def received(self) -> list[Float[Tensor, "pictures p 1"]]:
        """Attention that each patch receives, mean over heads."""
        return [
            self._received(query, key, mask, scaling or query.shape[-1] ** -0.5)
            for query, key, mask, scaling in self.calls
        ]

    def received_as_one_head(self) -> list[Float[Tensor, "pictures p 1"]]:
        """The same in the layer above with all heads read as one (PruMerge, arXiv 2403.15388)."""
        return [
            self._received(
                _side_by_side(query)[:, None],
                _side_by_side(key)[:, None],
                mask,
                (query.shape[1] * query.shape[3]) ** -0.5,
            )
            for query, key, mask, _ in self.calls_above or self.calls
        ]

    def _received(
        self, query: Tensor, key: Tensor, mask: Tensor | None, scaling: float
    ) -> Float[Tensor, "pictures p 1"]:
        rows = query if self.cls is None else query[:, :, :1]
        total = torch.zeros(key.shape[0], key.shape[2], device=key.device)
        for start in range(0, rows.shape[2], _ROWS):
            part = slice(start, start + _ROWS)
            seen = mask if mask is None or mask.shape[2] == 1 else mask[:, :, part]
            probs = attention_probs(rows[:, :, part], key, seen, scaling)
            total += probs.nan_to_num().mean(1).sum(1)
        return self._patches((total / _rows_that_see(mask, rows.shape[2]))[..., None])

    def _patches(self, values: Float[Tensor, "pictures p C"]) -> Float[Tensor, "pictures q C"]:
        return values[:, 1:] if self.cls == "left out" else values

    def view(self, merge: str | None, count: int, inputs: Mapping[str, Any]) -> TowerView:
        """Bring what was recorded onto the `count` tokens of one modality.

        Raises ValueError as `on_tokens` does.
        """

        def moved(values: list[Tensor]) -> Tensor:
            tower: Any = tower_of(self.model)
            return on_tokens(
                Patches(values, tower, inputs, self.pack, self.resampler), merge, count
            )

        keys, above = (
            [self._patches(_side_by_side(key)) for _, key, _, _ in calls]
            for calls in (self.calls, self.calls_above)
        )
        states = [
            self._patches(item.view(len(key), -1, item.shape[-1]))
            for item, key in zip(self._states_by_call(), keys, strict=True)
        ]
        heads = self.calls[0][1].shape[1]
        return TowerView(
            moved(self.received())[:, 0],
            lambda: moved(self.received_as_one_head())[:, 0],
            moved(keys),
            moved(states),
            heads,
            (lambda: moved(above)) if above else None,
        )

    def _states_by_call(self) -> list[Tensor]:
        """Split states by call: towers that attend picture by picture return all at once."""
        if len(self.states) == len(self.calls):
            return self.states
        flat = torch.cat([state.flatten(0, -2) for state in self.states])
        return list(flat.split([key.shape[0] * key.shape[2] for _, key, _, _ in self.calls]))


def _rows_that_see(mask: Tensor | None, rows: int) -> Float[Tensor, "*pictures p"] | int:
    """Count the rows that may attend to each key: of its own picture, where all are in one row."""
    if mask is None or mask.shape[2] == 1:
        return rows
    seen = mask[:, 0, :rows]
    seen = seen if seen.dtype == torch.bool else seen > torch.finfo(seen.dtype).min / 2
    return seen.sum(1).clamp_min(1).float()


def _side_by_side(parts: Float[Tensor, "pictures heads p d"]) -> Float[Tensor, "pictures p C"]:
    return parts.transpose(1, 2).flatten(2)


def _attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    watcher: TowerWatcher | None = getattr(module, _WATCHER, None)
    if watcher is not None:
        watcher.note(module, query, key, attention_mask, kwargs.get("scaling"))
    return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)


def encoding(model: Any) -> threading.RLock:
    """Return the lock under which a model encodes: what its tower computes is watched by hooks.

    So one thread at a time runs the tower.
    """
    return _encoding.setdefault(model, threading.RLock())


@contextmanager
def watching(model: Any) -> Iterator[TowerWatcher]:
    """Record the tower while pictures are encoded.

    Raises ValueError for families whose tower has no attention that can be watched.
    """
    register(_NAME, _attention)
    config = model.config
    layer, attention = feature_layer(model)
    attentions = _attentions(tower_of(model))
    place = next(place for place, part in enumerate(attentions.values()) if part is attention)
    watched = list(attentions.values())[place : place + 2]
    left_out = getattr(config, "vision_feature_select_strategy", "full") == "default"
    cls = "left out" if left_out else family_spec(config).cls
    watcher = TowerWatcher(model, cls, *watched[1:])
    before = config.vision_config._attn_implementation
    model.set_attn_implementation({"vision_config": _NAME})
    for part in watched:
        setattr(part, _WATCHER, watcher)
    try:
        with (
            hooked(layer, after=watcher.note_states),
            _packing(model.base_model, watcher),
            watching_resampler(model) as watcher.resampler,
        ):
            yield watcher
    finally:
        for part in watched:
            delattr(part, _WATCHER)
        model.set_attn_implementation({"vision_config": before})


@contextmanager
def _packing(inner: Any, watcher: TowerWatcher) -> Iterator[None]:
    """Remember how the model packs its tiles, to pack other values per patch the same way."""
    original = getattr(inner, "pack_image_features", None)
    if original is None:
        yield
        return

    def pack(features: Any, *args: Any, **kwargs: Any) -> Any:
        tiles = [len(feature) for feature in features]

        def again(values: Float[Tensor, "tiles p C"]) -> Float[Tensor, "T C"]:
            newline = values.new_zeros(values.shape[-1])
            packed, _ = original(values.split(tiles), *args, **kwargs | {"image_newline": newline})
            return torch.cat(list(packed))

        watcher.pack = again
        return original(features, *args, **kwargs)

    inner.pack_image_features = pack
    try:
        yield
    finally:
        del inner.pack_image_features


def tower_of(model: Any) -> nn.Module | None:
    return next(
        (part for name in _TOWERS if (part := getattr(model.base_model, name, None)) is not None),
        None,
    )


def _attentions(tower: nn.Module | None) -> dict[str, nn.Module]:
    """Find a tower's attention modules, from the first layer to the last, by name."""
    return {
        name: part
        for name, part in ([] if tower is None else tower.named_modules())
        if type(part).__name__.endswith("Attention") and hasattr(part, "config")
    }


def feature_layer(model: Any) -> tuple[nn.Module, nn.Module]:
    """Find the layer whose states become the features, and its attention module."""
    tower = tower_of(model)
    attentions = _attentions(tower)
    number = getattr(model.config, "vision_feature_layer", None)
    if tower is None or not attentions or isinstance(number, list | tuple):
        raise ValueError(
            f"the tower of {type(model).__name__} cannot be watched; choose another method"
        )
    # hidden_states[-1] is what the last layer gives, [0] what the first layer reads
    place = list(attentions)[-1 if number is None else number if number < 0 else number - 1]
    return tower.get_submodule(place.rpartition(".")[0]), attentions[place]
