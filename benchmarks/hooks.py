"""What open hooks cost: time of a decoding step, and memory over many calls and contexts.

`python benchmarks/hooks.py` times steps of a Llama-type decoder of 0.6 B parameters (20 layers,
1,280 wide, fp32, random weights) without hooks, and with `prune` before and inside the LLM and
`evict` open with nothing to drop: medians of the ratio to the plain step beside each, in one
process. Then it makes 1,000 calls of `generate` in one context and opens 1,000 contexts on a small
model, and prints by how much resident memory has grown since the first five hundred.
"""

from __future__ import annotations

import gc
import statistics
import time
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import psutil
import torch
from mid_size import IMAGE, mid_size_llava

import asymvlm
from asymvlm.eviction.policies.streaming_llm import StreamingLLM

ROUNDS, STEPS, COUNT, SIDE = 12, 10, 1000, 8


class InOrder(asymvlm.Method):
    """Ranks tokens as they come, before the LLM or before one of its layers."""

    def __init__(self, layer: int | None = None) -> None:
        self.layer = layer

    def score(self, tokens: Any) -> torch.Tensor:
        return torch.arange(len(tokens.vision)).float()


def prompt() -> dict[str, torch.Tensor]:
    ids = torch.cat([torch.full((1, SIDE**2), IMAGE), torch.randint(10, 1000, (1, 32))], dim=1)
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "pixel_values": torch.randn(1, 3, 4 * SIDE, 4 * SIDE),
    }


def ways(model: Any) -> dict[str, AbstractContextManager[Any]]:
    return {
        "prune before the LLM": asymvlm.prune(model, InOrder(), keep=1.0),
        "prune inside the LLM": asymvlm.prune(model, InOrder(2), keep=1.0),
        "evict": asymvlm.evict(model, StreamingLLM(sinks=2, recent=4), 10_000),
    }


@torch.no_grad()
def step_seconds(model: Any, context: AbstractContextManager[Any]) -> list[float]:
    """Seconds of each of the decoding steps behind a prompt."""
    token, seconds = torch.tensor([[20]]), []
    with context:
        cache = model(**prompt(), use_cache=True, logits_to_keep=1).past_key_values
        for _ in range(STEPS):
            start = time.perf_counter()
            model(input_ids=token, past_key_values=cache)
            seconds.append(time.perf_counter() - start)
    return seconds


def overhead() -> None:
    model = mid_size_llava(1280, 5120, SIDE)
    size = sum(parameter.numel() for parameter in model.parameters())
    print(f"a step of a decoder of {size / 1e9:.2f} B parameters, to the plain one beside it:")
    step_seconds(model, nullcontext())
    for name in ways(model):
        ratios = []
        for _ in range(ROUNDS):
            plain = statistics.median(step_seconds(model, nullcontext()))
            ratios.append(statistics.median(step_seconds(model, ways(model)[name])) / plain)
        print(f"  {name:24s} {statistics.median(ratios):.3f}")


def resident() -> int:
    gc.collect()
    return int(psutil.Process().memory_info().rss)


def growth() -> None:
    model, inputs = mid_size_llava(128, 256, SIDE, layers=2), prompt()
    steps = {"max_new_tokens": 2, "do_sample": False, "pad_token_id": 0}

    def calls(count: int) -> None:
        with asymvlm.prune(model, InOrder(), keep=0.5):
            for _ in range(count):
                model.generate(**inputs, **steps)

    def contexts(count: int) -> None:
        for number in range(count):
            with asymvlm.prune(model, InOrder(1 if number % 2 else None), keep=0.5):
                model.generate(**inputs, **steps)

    for name, run in (("calls in one context", calls), ("contexts", contexts)):
        run(COUNT // 2)
        before = resident()
        run(COUNT)
        print(f"{COUNT} {name}: resident memory {(resident() / before - 1) * 100:+.2f} %")


if __name__ == "__main__":
    overhead()
    growth()
