"""README's commands, and a copy of the project in which they run on small settings."""

from __future__ import annotations

import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from asymvlm.documents import Sample

from . import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
SMALL = {
    "train_pages": 12,
    "val_pages": 4,
    "max_epochs": 1,
    "batch_size": 8,
    "enable_model_summary": False,
    "pages": 2,
    "check_pages": 2,
    "crowded": 4,
    "steps": 2,
    "tower_batch": 3,
    "reading_batch": 3,
    "joint_batch": 3,
    "keeps": [0.25],
    "shares": [0.5],
    "latency_batches": [1],
    "severities": [5],
}
PLACEHOLDERS = {
    "PATH_OR_HUB_ID": "checkpoints/tiny-teacher",
    "FOLDER": "pages",
    "CHECKPOINT.ckpt": "checkpoints/tiny/best.ckpt",
    "DIR": "checkpoints/again",
    "OUT.png": "sheet.png",
    "../shared/data/receipts": "pages",
}
# What needs a terminal, a network or minutes is asked for the same files in a way that needs none
# of them.
INSTEAD = {
    # The package is installed where the tests run; a wheel is built and tried by hand.
    "pip install asymvlm": "asymvlm --version",
    "make train": "make --dry-run train",
    "make test": "make --dry-run test",
    "python -m asymvlm.training.fit_eviction": "python -m asymvlm.training.fit_eviction --pages 4",
    "wandb leet checkpoints/wandb": (
        "wandb leet inspect --summary checkpoints/wandb/latest-run/*.wandb"
    ),
    "wandb sync checkpoints/wandb/offline-run-*": "ls -d checkpoints/wandb/offline-run-*",
}
# They measure, and ask for no more than an exported scorer and each other.
MEASURES = (
    "python -m asymvlm.evaluation.",
    "python -m asymvlm.training.fit_eviction",
    "python eval.py eviction",
    "python eval.py --config",
    "asymvlm eval",
)


def commands(measures: bool) -> list[str]:
    """README's lines of bash, then first cells of its table of commands without what is optional.

    Those that measure, or the others.
    """
    blocks = [
        line.split("#")[0].strip()
        for block in re.findall(r"```bash\n(.*?)```", README, re.S)
        for line in block.splitlines()
    ]
    table = [re.sub(r"\s*\[.*", "", cell) for cell in re.findall(r"^\| `([^`]+)` \|", README, re.M)]
    # What `make train` does comes first, since others use its scorer; the teacher is made again
    # last: it replaces the one that they use.
    lines = dict.fromkeys(["asymvlm train", *blocks, *table])
    chosen = (line for line in lines if line and line.startswith(MEASURES) == measures)
    return sorted(chosen, key=lambda line: "teacher/" in line)


def small_copy(folder: Path, samples: Sequence[Sample]) -> None:
    """What the commands use, with small settings in the configs and `samples` as the reader's own
    pages.
    """
    for name in ("configs", "checkpoints/tiny-teacher"):
        shutil.copytree(ROOT / name, folder / name)
    for name in ("train.py", "eval.py", "Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder / name)
    for path in (folder / "configs").rglob("*.yaml"):
        path.write_text(yaml.safe_dump(_shrunk(yaml.safe_load(path.read_text())), sort_keys=False))
    for split in ("train", "val"):
        (folder / "pages" / split).mkdir(parents=True)
        records = []
        for number, sample in enumerate(samples):
            sample.image.save(folder / "pages" / split / f"{number}.png")
            record = {
                "image": f"{number}.png",
                "question": sample.question,
                "answers": sample.answers,
            }
            records.append(
                json.dumps(
                    record
                    | {"evidence_boxes": sample.evidence_boxes, "key_boxes": sample.key_boxes}
                )
            )
        (folder / "pages" / split / "questions.jsonl").write_text("\n".join(records))


def run(command: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command, or what stands for it, in such a copy; it must succeed.

    What Python runs is run in this process, as `python` would: imports take most of its time. What
    a shell has to run is a process of its own.
    """
    for name, value in PLACEHOLDERS.items():
        command = re.sub(rf"(?<![\w./]){re.escape(name)}(?![\w/])", value, command)
    monkeypatch.chdir(folder)
    monkeypatch.setattr("asymvlm.cli.configs._ROOTS", (folder,))
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    command = INSTEAD.get(command, command)
    words = shlex.split(command)
    if words[0] not in ("python", "asymvlm") or words == ["asymvlm", "--version"]:
        done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-2000:]
        return
    place = "asymvlm" if words[0] == "asymvlm" else words[2 if words[1] == "-m" else 1]
    rest = words[1:] if words[0] == "asymvlm" else words[words.index(place) + 1 :]
    monkeypatch.setattr("sys.argv", [place, *rest])
    with pytest.raises(SystemExit) as end:
        if place.endswith(".py"):
            runpy.run_path(place, run_name="__main__")
        else:
            runpy.run_module(place, run_name="__main__", alter_sys=True)
    assert not end.value.code, command


def _shrunk(value):
    if not isinstance(value, dict):
        return [_shrunk(one) for one in value] if isinstance(value, list) else value
    return {
        key: SMALL[key] if key in SMALL and type(one) is type(SMALL[key]) else _shrunk(one)
        for key, one in value.items()
    }
