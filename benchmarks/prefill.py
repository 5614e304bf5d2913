"""What pruning buys in prefill time, and what choosing costs: `python benchmarks/prefill.py`.

A Llama-type decoder of about half a billion parameters with random weights behind 1,024 and 2,304
vision tokens and 32 words. Dense and pruned prefills run in turn in one process; times are medians.
"of the FLOPs" is the speed-up divided by the ratio of the FLOPs of all that runs, as torch counts
them, tower, projector and method included: 1 would be all that the FLOPs promise. "of a short one"
is the time of the same model on a prompt that never had more positions, divided by the pruned time:
what pruning itself costs; the rest is what this machine makes of short prompts. "choosing" is the
share of the pruned prefill that goes into the choice. The batch is the first argument: `python
benchmarks/prefill.py 4`.
"""

from __future__ import annotations

import statistics
import sys
import time
from typing import Any

import torch
from mid_size import IMAGE, mid_size_llava

import asymvlm
from asymvlm.checkpoint.scorer import TrainedScorer
from asymvlm.evaluation.cost.cost import flop_counter
from asymvlm.methods.div_prune import DivPrune
from asymvlm.methods.learned import Learned
from asymvlm.methods.vlm_pruner import VLMPruner
from asymvlm.scorers.cross_attention import CrossAttentionScorer

SIDES = (32, 48)  # patches: 1,024 and 2,304 tokens
KEEPS = (0.25, 0.125)
WORDS, WIDTH, ROUNDS = 32, 1280, 3


def prompt(batch: int, side: int) -> dict[str, torch.Tensor]:
    ids = torch.cat(
        [torch.full((batch, side * side), IMAGE), torch.randint(10, 32000, (batch, WORDS))], dim=1
    )
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "pixel_values": torch.randn(batch, 3, 4 * side, 4 * side),
    }


def short_prompt(batch: int, side: int, keep: float) -> dict[str, torch.Tensor]:
    """As many positions as pruning leaves, all of them words."""
    ids = torch.randint(10, 32000, (batch, round(keep * side * side) + WORDS))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


class Watch:
    """Adds up the seconds that a method takes to choose and to fuse."""

    def __init__(self, method: asymvlm.Method) -> None:
        self.seconds = 0.0
        for name in ("score", "select", "merge"):
            if getattr(type(method), name) is not getattr(asymvlm.Method, name):
                setattr(method, name, self._timed(getattr(method, name)))

    def _timed(self, original: Any) -> Any:
        def run(*args: Any) -> Any:
            start = time.perf_counter()
            try:
                return original(*args)
            finally:
                self.seconds += time.perf_counter() - start

        return run


@torch.no_grad()
def main(batch: int) -> None:
    methods: dict[str, asymvlm.Method] = {
        "learned": Learned(
            TrainedScorer(CrossAttentionScorer(WIDTH, hidden=64, heads=4), None, ())
        ),
        "vlm_pruner": VLMPruner(),
        "div_prune": DivPrune(),
    }
    watches = {name: Watch(method) for name, method in methods.items()}
    titles = f"{'tokens':>7}{'method':>12}{'keep':>7}{'dense s':>9}{'pruned s':>10}{'speed-up':>10}"
    print(f"batch of {batch}\n{titles}{'of the FLOPs':>14}{'of a short one':>16}{'choosing':>10}")
    for side in SIDES:
        model, inputs = mid_size_llava(WIDTH, 3456, side), prompt(batch, side)
        runs = [(name, keep) for name in methods for keep in KEEPS]
        dense: list[float] = []
        pruned: dict[tuple[str, float], list[float]] = {run: [] for run in runs}
        chosen: dict[tuple[str, float], list[float]] = {run: [] for run in runs}
        short: dict[float, list[float]] = {keep: [] for keep in KEEPS}
        costs, full = {}, _flops(model, inputs)
        for _ in range(ROUNDS + 1):  # one to warm up
            dense.append(_seconds(model, inputs))
            for keep in KEEPS:
                short[keep].append(_seconds(model, short_prompt(batch, side, keep)))
            for name, keep in runs:
                watches[name].seconds = 0.0
                with asymvlm.prune(model, methods[name], keep):
                    if (name, keep) not in costs:
                        costs[name, keep] = _flops(model, inputs)
                        watches[name].seconds = 0.0
                    pruned[name, keep].append(_seconds(model, inputs))
                chosen[name, keep].append(watches[name].seconds)
        before = statistics.median(dense[1:])
        for run in runs:
            after = statistics.median(pruned[run][1:])
            share = statistics.median(chosen[run][1:]) / after
            faster = before / after
            alone = statistics.median(short[run[1]][1:]) / after
            per_flop = faster * costs[run] / full
            cells = f"{before:>9.2f}{after:>10.2f}{faster:>10.2f}{per_flop:>14.2f}"
            cells += f"{alone:>16.2f}{share:>10.2%}"
            print(f"{side * side:>7}{run[0]:>12}{run[1]:>7}{cells}")


def _flops(model: Any, inputs: dict[str, torch.Tensor]) -> int:
    with flop_counter() as counter:
        model(**inputs, logits_to_keep=1)
    return counter.get_total_flops()


def _seconds(model: Any, inputs: dict[str, torch.Tensor]) -> float:
    start = time.perf_counter()
    model(**inputs, logits_to_keep=1)
    return time.perf_counter() - start


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
