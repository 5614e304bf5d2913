"""What eviction costs per decoded token: `python benchmarks/eviction.py`.

A Llama-type decoder of about a quarter of a billion parameters with random weights behind 256
vision tokens. Every policy decodes at its budget, so that an entry leaves every layer at every
step; beside it, step by step in one process, the same model decodes on a plain `DynamicCache` that
holds as many entries (half the steps fewer at the start, half more at the end). Times are medians
over steps; "overhead" is the median of the differences of neighbours, as a share of the plain step.
The number of threads is the first argument, the batch the second: `python benchmarks/eviction.py 1
4`.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from mid_size import IMAGE, LAYERS, mid_size_llava
from safetensors.torch import save_file
from transformers import DynamicCache

import asymvlm
from asymvlm.eviction.policies.linear import LinearEvictor

WIDTH, SIDE, BUDGET, STEPS, WARM_UP = 1024, 16, 256, 48, 8


def prefilled(model: Any, batch: int, words: int) -> DynamicCache:
    """A cache that has read a picture and some words.

    Plain, or losing entries where `asymvlm.evict` is open.
    """
    ids = torch.cat(
        [torch.full((batch, SIDE * SIDE), IMAGE), torch.randint(10, 32000, (batch, words))], dim=1
    )
    cache = DynamicCache(config=model.config)
    model(
        input_ids=ids,
        pixel_values=torch.randn(batch, 3, 4 * SIDE, 4 * SIDE),
        past_key_values=cache,
        logits_to_keep=1,
    )
    return cache


def stepper(model: Any, cache: DynamicCache, batch: int) -> Callable[[], float]:
    """A function that decodes one more token and says how many milliseconds it took."""

    def step() -> float:
        word = torch.randint(10, 32000, (batch, 1))
        start = time.perf_counter()
        model(input_ids=word, past_key_values=cache)
        return 1000 * (time.perf_counter() - start)

    return step


def any_line(folder: str) -> Path:
    """Weights of the learned rule for this model: what they say does not matter to the clock."""
    path = Path(folder) / "text-scores.safetensors"
    save_file({"weight": torch.randn(LAYERS, WIDTH), "bias": torch.zeros(LAYERS)}, path)
    return path


@torch.no_grad()
def main(threads: int, batch: int) -> None:
    torch.set_num_threads(threads)
    model = mid_size_llava(WIDTH, 2816, SIDE)
    with TemporaryDirectory() as folder:
        policies = {
            name: kind() if name != LinearEvictor.kind else kind(any_line(folder))
            for name, kind in asymvlm.evictors().items()
        }
    runs = {}
    for name, policy in policies.items():
        with asymvlm.evict(model, policy, BUDGET):
            runs[name] = stepper(model, prefilled(model, batch, BUDGET), batch)
    plain_step = stepper(model, prefilled(model, batch, BUDGET - (STEPS + WARM_UP) // 2), batch)
    plain: list[float] = []
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(STEPS + WARM_UP):
        plain.append(plain_step())
        for name, step in runs.items():
            with asymvlm.evict(model, policies[name], BUDGET):
                times[name].append(step())
    before = statistics.median(plain[WARM_UP:])
    print(
        f"batch {batch}, {threads} threads, {SIDE * SIDE} vision and {BUDGET} text entries, "
        f"{STEPS} steps; plain {before:.1f} ms a token"
    )
    print(f"{'policy':>14}{'ms a token':>12}{'overhead':>10}")
    for name, taken in times.items():
        difference = statistics.median(
            one - other for one, other in zip(taken[WARM_UP:], plain[WARM_UP:], strict=True)
        )
        print(f"{name:>14}{statistics.median(taken[WARM_UP:]):>12.1f}{difference / before:>10.1%}")


if __name__ == "__main__":
    main(*(int(argument) for argument in (*sys.argv[1:], "1", "1")[:2]))
