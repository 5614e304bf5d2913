"""What a step of each stage of training costs beside stage one's.

`python benchmarks/stages.py` (two minutes on two cores).

Every line is a process of its own that trains on the tiny teacher for a few steps of 32 questions,
with the live teacher (no cache of targets). "held" is what the process holds before its first step
(packages, teacher, pages), "a step" what its peak is above that; ratios are to stage one. Stages
two start from a scorer that the first line exports.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import lightning as L

from asymvlm.training.main import main as train

STEPS, BATCH = 12, 32
SMALL = [
    "--data.cache",
    "false",
    "--data.batch_size",
    str(BATCH),
    "--data.train_pages",
    "80",
    "--data.val_pages",
    "4",
    "--trainer.max_epochs",
    "1",
    "--trainer.limit_train_batches",
    str(STEPS),
    "--trainer.num_sanity_val_steps",
    "0",
    "--trainer.logger",
    "false",
    "--trainer.enable_progress_bar",
    "false",
    "--trainer.callbacks",
    "asymvlm.training.callbacks.ExportScorer",
    "--trainer.callbacks+=stages.Peak",
]
STAGE_TWO = ["--config", "configs/tiny-stage2.yaml"]
LORA = [*STAGE_TWO, "--config", "configs/stage2/lora.yaml"]
LINES = {
    "stage one": ["--config", "configs/tiny.yaml"],
    "stage two": STAGE_TWO,
    "stage two, checkpointing": [*STAGE_TWO, "--model.checkpointing", "true"],
    "LoRA": LORA,
    "LoRA, checkpointing": [*LORA, "--model.checkpointing", "true"],
}


class Peak(L.Callback):
    """Prints what steps took; the first is not timed."""

    def __init__(self) -> None:
        self._held, self._last = 0.0, 0.0
        self._seconds: list[float] = []

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        status = Path("/proc/self/status").read_text()
        self._held = int(status.split("VmRSS:")[1].split()[0]) / 2**20

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        now = time.perf_counter()
        self._seconds += [now - self._last] if self._last else []
        self._last = now

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(
            "measured",
            json.dumps(
                {"held": self._held, "peak": peak, "seconds": statistics.median(self._seconds)}
            ),
        )


def measured(flags: list[str], out: Path, start: Path | None) -> dict[str, float]:
    """One line, in a process of its own."""
    begin = [] if start is None else ["--model.start", str(start)]
    command = [
        sys.executable,
        __file__,
        *flags,
        *SMALL,
        *begin,
        "--trainer.default_root_dir",
        str(out),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = [line for line in done.stdout.splitlines() if line.startswith("measured")]
    if done.returncode or not found:
        raise SystemExit(done.stderr[-3000:])
    return json.loads(found[0].removeprefix("measured"))


def main() -> None:
    print(
        f"{'':>26}{'s a step':>10}{'ratio':>7}{'held':>8}{'a step':>8}{'ratio':>7}   GiB, batches "
        f"of {BATCH}"
    )
    first: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, flags) in enumerate(LINES.items()):
            one = measured(
                flags, Path(folder) / str(number), Path(folder) / "0/scorer" if first else None
            )
            first = first or one
            above, above_first = (each["peak"] - each["held"] for each in (one, first))
            print(
                f"{name:>26}{one['seconds']:>10.2f}{one['seconds'] / first['seconds']:>7.2f}"
                f"{one['held']:>8.2f}{above:>8.2f}"
                f"{above / above_first:>7.2f}"
            )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.exit(train(sys.argv[1:]))
    main()
