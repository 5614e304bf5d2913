"""The main job on a small teacher: trains, exports, resumes, repeats, and refuses with one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import asymvlm
from asymvlm.training.cli import main

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def teacher_directory(llava, processor, tmp_path_factory):
    directory = tmp_path_factory.mktemp("teacher")
    llava.save_pretrained(directory)
    processor.save_pretrained(directory)
    return directory


@pytest.fixture
def train(teacher_directory, tmp_path, monkeypatch):
    """Runs the front door in a folder of its own: a few pages, two epochs. Returns (exit code, folder)."""
    monkeypatch.chdir(tmp_path)

    def run(*flags, folder="out"):
        base = {
            "config": ROOT / "configs/tiny.yaml", "model.teacher": teacher_directory, "data.train_pages": 12, "data.val_pages": 4,
            "data.root": tmp_path / "data", "data.batch_size": 8, "trainer.max_epochs": 2, "trainer.default_root_dir": folder,
            "trainer.enable_progress_bar": "false", "trainer.logger": "false", "trainer.callbacks": "null", "trainer.enable_model_summary": "false",
            "trainer.callbacks+": "asymvlm.training.callbacks.ExportScorer", "trainer.callbacks.directory": f"{folder}/scorer",
        }  # fmt: skip
        return main([part for key, value in base.items() for part in (f"--{key}", str(value))] + list(flags)), tmp_path / folder

    return run


def weights(folder):
    return load_file(folder / "scorer" / "model.safetensors")


def test_trains_and_exports(train, llava, batch):
    code, folder = train()
    assert code == 0
    scorer = asymvlm.load_scorer(folder / "scorer")
    with torch.no_grad(), asymvlm.prune(llava, scorer, keep="auto") as report:
        llava(**batch, logits_to_keep=1)
    assert all(1 <= after <= 256 for after in report.calls[-1].after)
    config = json.loads((folder / "scorer" / "config.json").read_text())
    assert config["training"]["metrics"]["val/loss"] > 0 and len(config["data"]["fingerprints"]["train"]) == 16
    assert (folder / "scorer" / "README.md").read_text().startswith("---")


def test_same_seed_same_weights(train):
    first, second = weights(train(folder="a")[1]), weights(train(folder="b")[1])
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_live_teacher_gives_the_same_batches_as_the_cache(train):
    cached = weights(train("--trainer.max_epochs", "1", folder="a")[1])
    live = weights(train("--trainer.max_epochs", "1", "--data.cache", "false", folder="b")[1])
    for name in cached:  # the cache keeps halves
        torch.testing.assert_close(cached[name], live[name], atol=5e-3, rtol=5e-2)
