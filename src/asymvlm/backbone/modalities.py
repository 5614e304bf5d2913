"""Pictures and videos: two encoders' outputs in one sequence of placeholders."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..typing import Bool, Float, Int64
from .family_spec import family_spec
from .layout import EncodedPictures
from .tower.watch import TowerView, encoding, join_views, watching

NAMES = ("image", "video")


@dataclass(frozen=True)
class Modality:
    """One kind of pixels that a model takes, by the names of transformers."""

    name: str
    token_id: int  # the placeholder that stands for one vision token
    arguments: tuple[str, ...]  # of its encoder

    def given(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Select the arguments of its encoder; empty where there are no pixels of this kind."""
        found = {name: inputs[name] for name in self.arguments if inputs.get(name) is not None}
        return found if any(name.startswith("pixel_values") for name in found) else {}


def modalities_of(model: Any) -> list[Modality]:
    """List the modalities that a model has an encoder and a placeholder for."""
    found = []
    for name in NAMES:
        encode = getattr(model.base_model, f"get_{name}_features", None)
        token = getattr(model.config, f"{name}_token_id", None)
        if encode is not None and token is not None:
            arguments = tuple(
                key for key in inspect.signature(encode).parameters if key != "kwargs"
            )
            found.append(Modality(name, int(token), arguments))
    return found


def encode_modalities(
    model: Any, modalities: Iterable[Modality], inputs: Mapping[str, Any], watch_tower: bool
) -> tuple[dict[str, Any], dict[str, TowerView]]:
    """Run tower and projector for each modality that a call brings, or take what comes encoded.

    Returns outputs and, with `watch_tower`, what the tower computed, by modality. Raises ValueError
    where the tower is to be watched and does not run.
    """
    given = inputs.get("mm_encoder_outputs") or {}
    outputs = {name: copy.copy(item) for name, item in given.items() if item is not None}
    views = {}
    for modality in modalities:
        if not (pixels := modality.given(inputs)):
            continue
        encode = getattr(model.base_model, f"get_{modality.name}_features")
        with encoding(model), watching(model) if watch_tower else nullcontext() as watcher:
            output = outputs[modality.name] = encode(**pixels, return_dict=True)
        if watcher is not None:
            count = sum(item[..., 0].numel() for item in output.pooler_output)
            merge = family_spec(model.config).patch_merge
            views[modality.name] = watcher.view(merge, count, pixels)
    if watch_tower and len(views) < len(outputs):
        raise ValueError(
            "mm_encoder_outputs: this method looks at what the tower computes; give pixels"
        )
    return outputs, views


def in_reading_order(outputs: Mapping[str, Any], kind: Int64[Tensor, "T"]) -> EncodedPictures:
    """Join the outputs of all modalities in the order of their placeholders.

    Raises ValueError where features and placeholders do not add up.
    """
    # Some families, in some versions, give a video frame by frame.
    parts = {
        name: [item.reshape(-1, item.shape[-1]) for item in output.pooler_output]
        for name, output in outputs.items()
    }
    for name, features in parts.items():
        _check_count(name, int((kind == NAMES.index(name)).sum()), sum(map(len, features)))
    waiting = {name: iter(features) for name, features in parts.items()}
    pictures: list[Tensor] = []
    names: list[str] = []
    at = 0
    while at < len(kind):
        names.append(NAMES[int(kind[at])])
        pictures.append(next(waiting[names[-1]]))
        at += len(pictures[-1])
    return EncodedPictures(dict(outputs), pictures, kinds=names)


def _check_count(name: str, placeholders: int, features: int) -> None:
    if placeholders != features:
        raise ValueError(
            f"input_ids: {placeholders} {name} placeholders for {features} {name} features; "
            "build both with the model's own processor, without truncation"
        )


def rows_of(encoded: EncodedPictures, name: str) -> Bool[Tensor, "T"]:
    """Mark the rows in reading order that belong to a modality."""
    masks = [
        torch.full((len(picture),), kind == name)
        for picture, kind in zip(encoded.pictures, encoded.kinds, strict=True)
    ]
    return torch.cat(masks).to(encoded.rows.device)


def one_view(views: Mapping[str, TowerView], encoded: EncodedPictures) -> TowerView:
    """Join the tower views of all modalities, in reading order."""
    if len(views) == 1:
        return next(iter(views.values()))
    order = torch.cat([rows_of(encoded, name).nonzero().squeeze(-1) for name in views]).argsort()
    return join_views(list(views.values())).of(order)


def fewer(
    output: Any, rows: Float[Tensor, "K D"], index: Int64[Tensor, "K"], sizes: list[int]
) -> Any:
    """Replace a modality's features by the kept `rows`, one entry per sample.

    Families that give a rectangular tensor take it apart again, so one entry per token keeps it a
    tensor. Features of deeper LLM layers ("deepstack") lose the same rows.
    """
    result: Any = copy.copy(output)
    filled = [size for size in sizes if size]
    result.pooler_output = (
        rows[:, None, :] if isinstance(output.pooler_output, Tensor) else list(rows.split(filled))
    )
    deep = getattr(output, "deepstack_features", None)
    if deep is not None:
        result.deepstack_features = [
            list(torch.cat(list(layer))[index].split(filled)) for layer in deep
        ]
    return result
