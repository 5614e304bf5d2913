"""Every command and every piece of Python in the README runs, in order, on small settings."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers
import yaml
from safetensors.torch import save_file

import asymvlm

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SMALL = {
    "train_pages": 12, "val_pages": 4, "max_epochs": 1, "batch_size": 8, "enable_model_summary": False,
    "pages": 4, "check_pages": 2, "crowded": 4, "steps": 2, "tower_batch": 3, "reading_batch": 3, "joint_batch": 3,
    "keeps": [0.25], "shares": [0.5],
    "latency_batches": [1], "severities": [5],
}  # fmt: skip
PLACEHOLDERS = {
    "PATH_OR_HUB_ID": "checkpoints/tiny-teacher", "FOLDER": "pages", "CHECKPOINT.ckpt": "checkpoints/tiny/best.ckpt",
    "DIR": "checkpoints/again", "OUT.png": "sheet.png", "../shared/data/receipts": "pages",
}  # fmt: skip
# What needs a terminal, a network or minutes is asked for the same files in a way that needs none of them.
INSTEAD = {
    "make train": "make --dry-run train",
    "make test": "make --dry-run test",
    "python -m asymvlm.training.text_scores": "python -m asymvlm.training.text_scores --pages 4",
    "wandb leet checkpoints/wandb": "wandb leet inspect --summary checkpoints/wandb/latest-run/*.wandb",
    "wandb sync checkpoints/wandb/offline-run-*": "ls -d checkpoints/wandb/offline-run-*",
}


def readme_commands() -> list[str]:
    """Lines of bash blocks, then first cells of the table of commands without what is optional."""
    blocks = [line.split("#")[0].strip() for block in re.findall(r"```bash\n(.*?)```", README, re.S) for line in block.splitlines()]
    table = [re.sub(r"\s*\[.*", "", cell) for cell in re.findall(r"^\| `([^`]+)` \|", README, re.M)]
    # What `make train` does comes first, since others use its scorer; the teacher is made again last: it replaces the one that they use.
    lines = dict.fromkeys(["python train.py", *blocks, *table])
    return sorted((line for line in lines if line), key=lambda line: "teacher/" in line)


def shrunk(value):
    if not isinstance(value, dict):
        return [shrunk(one) for one in value] if isinstance(value, list) else value
    return {key: SMALL[key] if key in SMALL and type(one) is type(SMALL[key]) else shrunk(one) for key, one in value.items()}


@pytest.fixture(scope="module")
def repository(tmp_path_factory, page_samples):
    """A copy of what the commands use, with small settings in the configs."""
    copy = tmp_path_factory.mktemp("repository")
    for name in ("configs", "checkpoints/tiny-teacher"):
        shutil.copytree(ROOT / name, copy / name)
    for name in ("train.py", "eval.py", "Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, copy / name)
    for path in (copy / "configs").rglob("*.yaml"):
        path.write_text(yaml.safe_dump(shrunk(yaml.safe_load(path.read_text())), sort_keys=False))
    for split in ("train", "val"):
        (copy / "pages" / split).mkdir(parents=True)
        records = []
        for number, sample in enumerate(page_samples):
            sample.image.save(copy / "pages" / split / f"{number}.png")
            record = {"image": f"{number}.png", "question": sample.question, "answers": sample.answers}
            records.append(json.dumps(record | {"evidence_boxes": sample.evidence_boxes, "key_boxes": sample.key_boxes}))
        (copy / "pages" / split / "questions.jsonl").write_text("\n".join(records))
    return copy


@pytest.mark.parametrize("command", readme_commands())
def test_command(repository, command):
    for name, value in PLACEHOLDERS.items():
        command = re.sub(rf"(?<![\w./]){re.escape(name)}(?![\w/])", value, command)
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "WANDB_SILENT": "true"}
    done = subprocess.run(
        INSTEAD.get(command, command), shell=True, cwd=repository, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-2000:]


def test_python(llava, processor, page_samples, tmp_path, monkeypatch):
    from asymvlm.checkpoint import TrainedScorer, save_scorer
    from asymvlm.prompts import Prompter
    from asymvlm.scorers import scorers

    monkeypatch.chdir(tmp_path)
    save_scorer(TrainedScorer(scorers()["low_rank"](40), None, (0, 1, 2, 3)), Path("checkpoints/tiny/scorer"), "card")
    save_file({"weight": torch.zeros(2, 40), "bias": torch.zeros(2)}, "checkpoints/tiny/text-scores.safetensors")
    inputs = Prompter(processor)(page_samples[:1]).inputs
    names = {"asymvlm": asymvlm, "model": llava, "inputs": inputs, "processor": processor, "transformers": transformers}
    for block in re.findall(r"```python\n(.*?)```", README, re.S):
        exec(block, names)  # the README's own words
    assert names["out"].shape[1] > inputs["input_ids"].shape[1]
    with torch.no_grad(), asymvlm.prune(llava, names["Brightest"](), keep=0.25) as report:
        llava(**inputs)
    assert report.calls[0].after == [64]


def test_links_and_pictures_exist():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target
