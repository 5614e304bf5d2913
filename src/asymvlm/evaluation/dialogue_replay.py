"""Replay a dialogue turn by turn on one cache."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache

from ..distillation.teacher import Teacher
from ..documents import Sample
from ..engine import hooked
from ..eviction import EvictionReport
from .cost.cost import step_macs


@dataclass(frozen=True)
class DialogueResult:
    """The answer that ends one dialogue, with its cost."""

    id: str
    text: str
    peak_bytes: int  # keys and values of all layers at their largest, between steps
    tokens: int  # read and written after the first turn
    seconds: float  # for these
    # Of the LLM, from the first turn on; None for a decoder that `cost` does not cover.
    macs: int | None


@torch.no_grad()
def replay(
    teacher: Teacher, sample: Sample, longest: int, evictions: EvictionReport | None = None
) -> DialogueResult:
    """Answer the question that ends a dialogue, whose history is read turn by turn.

    What was said is given, replies too; every turn is read on the cache that the turns before left
    behind, as in a conversation. So what leaves that cache leaves before the question is known.
    `evictions` is the open report of `asymvlm.evict`, for the size of the cache.
    """
    model: Any = teacher.model
    inputs = teacher.inputs([sample])
    ids = inputs["input_ids"]
    ends = [*teacher.prompter.ends_of_turns(sample), ids.shape[1]]
    cache = DynamicCache(config=model.config.get_text_config())
    peak, seconds, since = 0, 0.0, 0
    output = ids
    with _macs(teacher, cache) as macs:
        for number, end in enumerate(ends):
            turn = {
                name: value[:, :end] if value.shape == ids.shape else value
                for name, value in inputs.items()
            }
            if number:
                turn = teacher.backbone.without_pictures(turn)
            start = time.perf_counter()
            # What it would say to a turn of the past is not kept.
            new = longest if end == ids.shape[1] else 1
            output = model.generate(
                **turn, past_key_values=cache, max_new_tokens=new, do_sample=False
            )
            if number:
                seconds = seconds + time.perf_counter() - start
                since = since + output.shape[1] - ends[number - 1]
            sizes = [layer.keys.nbytes + layer.values.nbytes for layer in cache.layers]
            peak = max(peak, sum(sizes))
    if evictions is not None:
        peak = max(peak, evictions.calls[-1].peak_bytes)
    return DialogueResult(
        sample.id,
        teacher.prompter.decode(output[:, ids.shape[1] :])[0],
        peak,
        since,
        seconds,
        None if None in macs else sum(macs),  # type: ignore[arg-type]
    )


@contextmanager
def _macs(teacher: Teacher, cache: DynamicCache) -> Iterator[list[int | None]]:
    """Count the MACs of every pass of the LLM while open; None where they are not known."""
    passes: list[int | None] = []

    def count(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        entries = [layer.keys.shape[-2] if layer.is_initialized else 0 for layer in cache.layers]
        try:
            passes.append(
                step_macs(teacher.model.config, entries, kwargs["inputs_embeds"].shape[1])
            )
        except ValueError:
            passes.append(None)

    with hooked(teacher.backbone.decoder, count):
        yield passes
