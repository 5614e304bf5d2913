"""The main job on a small random teacher, through its front door.

Trains, exports, resumes, repeats, and refuses with one line.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch
from jsonargparse import Namespace
from support import ROOT, child_environment
from support import SMALL as SMALL_CONFIG
from support.scorer_runs import same, weights

import asymvlm
from asymvlm.export import export_checkpoint
from asymvlm.training.main import TrainingCLI, main

SMALL = ["--config", str(ROOT / "configs/tiny.yaml"), "--config", str(SMALL_CONFIG)]
BF = {"stderr": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}


@pytest.fixture
def start(teacher, data_root, tmp_path):
    """Starts train.py in a folder of its own."""

    def run(folder, *flags):
        (tmp_path / folder).mkdir(exist_ok=True)
        command = [
            sys.executable,
            str(ROOT / "train.py"),
            *SMALL,
            "--model.teacher",
            str(teacher),
            "--data.root",
            str(data_root),
            *flags,
        ]
        environment = child_environment(WANDB_SILENT="true")
        return subprocess.Popen(command, cwd=tmp_path / folder, env=environment, **BF)

    return run


@pytest.fixture
def ends(start):
    """Runs train.py to its end as a process; returns what it wrote to stdout and stderr."""

    def run(folder, *flags, code=0):
        process = start(folder, *flags)
        said = process.communicate(timeout=300)
        assert process.returncode == code, said[1][-3000:]
        return said

    return run


@pytest.fixture
def train(teacher, data_root, tmp_path, monkeypatch):
    """Runs train.py's command in this process; returns its output folder."""

    def run(folder, *flags):
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        where = [
            "--model.teacher",
            str(teacher),
            "--data.root",
            str(data_root),
            "--trainer.logger",
            "false",
        ]
        assert main([*SMALL, *where, *flags]) == 0
        return tmp_path / folder / "out"

    return run


@pytest.fixture
def refused(teacher, data_root, tmp_path, monkeypatch, capsys):
    """What train.py's command writes to stderr about input that it does not take.

    In this process, which starts no other.
    """

    def run(*flags, code):
        monkeypatch.chdir(tmp_path)
        assert (
            main([*SMALL, "--model.teacher", str(teacher), "--data.root", str(data_root), *flags])
            == code
        )
        err = capsys.readouterr().err
        assert "Traceback" not in err
        return err

    return run


def last_val_loss(out):
    stored = torch.load(out / "last.ckpt", weights_only=True)
    return stored["asymvlm"]["config"]["training"]["metrics"]["val/loss"]


@pytest.fixture(scope="module")
def reference(teacher, data_root, tmp_path_factory):
    """One plain run that several tests compare with."""
    folder = tmp_path_factory.mktemp("reference")
    command = [
        sys.executable,
        str(ROOT / "train.py"),
        *SMALL,
        "--model.teacher",
        str(teacher),
        "--data.root",
        str(data_root),
    ]
    done = subprocess.run(command, cwd=folder, check=False, **BF)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "out"


def test_exports_what_loaders_read(reference, llava, batch):
    scorer = asymvlm.load_scorer(reference / "scorer")
    with torch.no_grad(), asymvlm.prune(llava, scorer, keep="auto") as report:
        llava(**batch, logits_to_keep=1)
    assert all(1 <= after <= 256 for after in report.calls[-1].after)
    config = json.loads((reference / "scorer" / "config.json").read_text())
    assert config["training"]["metrics"]["val/loss"] > 0
    assert {len(mark) for mark in config["data"]["fingerprints"].values()} == {16}
    assert (reference / "scorer" / "README.md").read_text().startswith("---")


def test_export_command_gives_the_same_directory(reference, tmp_path):
    export_checkpoint(reference / "best.ckpt", tmp_path / "scorer")
    for name in ("config.json", "model.safetensors", "README.md"):
        assert (tmp_path / "scorer" / name).read_bytes() == (
            reference / "scorer" / name
        ).read_bytes()


def test_checkpoint_holds_no_teacher(reference):
    stored = torch.load(reference / "last.ckpt", weights_only=True)
    assert {name.split(".")[0] for name in stored["state_dict"]} == {"scorer", "budget_head"}


# Lightning's and jsonargparse's own, as a user would see them.
@pytest.mark.filterwarnings("default")
def test_same_seed_same_weights_and_another_seed_others(train, reference):
    assert same(weights(train("again")), weights(reference))
    assert not same(weights(train("other", "--seed_everything", "1")), weights(reference))


@pytest.mark.filterwarnings("default")
def test_live_teacher_agrees_with_the_cache(train, reference):
    live = weights(train("live", "--data.cache", "false"))
    for name, tensor in weights(reference).items():  # the cache keeps halves
        torch.testing.assert_close(live[name], tensor, atol=2e-2, rtol=0.1)


def test_killed_and_resumed_equals_uninterrupted(start, ends, reference, tmp_path):
    process = start("killed")
    out = tmp_path / "killed" / "out"
    deadline = time.time() + 240
    # One epoch is done, the next is under way.
    while not (out / "last.ckpt").is_file() and time.time() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (out / "scorer").exists(), "killed too late to test anything"
    step = torch.load(out / "last.ckpt", weights_only=True)["global_step"]
    said, _ = ends("killed", "--ckpt_path", "last")
    assert f"resuming out/last.ckpt at step {step}, all settings as they were" in said and step == 8
    assert same(weights(out), weights(reference))
    runs = {path.name.split("-")[-1] for path in (out / "wandb").glob("offline-run-*")}
    assert len(runs) == 1, "both parts belong to one wandb run"


def test_two_processes_reach_the_same_loss(ends, reference, tmp_path):
    flags = [
        "--trainer.accelerator",
        "cpu",
        "--trainer.devices",
        "2",
        "--trainer.strategy",
        "ddp",
        "--data.batch_size",
        "4",
    ]
    ends("ddp", *flags)
    assert last_val_loss(tmp_path / "ddp/out") == pytest.approx(last_val_loss(reference), abs=1e-4)


# Lightning's and jsonargparse's own, as a user would see them.
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("flags,code,says", [
    (["--model.scorer.rnak", "3"], 2, "rnak"),
    (["--model.objectives.ranking.best", "0"], 2, "best: 0 must be at least 1"),
    (["--model.teacher", "/nowhere"], 1, "teacher: /nowhere"),
    (["--data.path", "/nowhere"], 1, "data.path: /nowhere does not exist"),
    (["--ckpt_path", "missing.ckpt"], 1, "missing.ckpt does not exist"),
])  # fmt: skip
def test_bad_input_is_one_message(refused, flags, code, says):
    assert says in refused(*flags, code=code)


@pytest.mark.filterwarnings("default")
def test_teacher_that_is_no_vlm(refused, tmp_path):
    from transformers import LlamaConfig

    LlamaConfig().save_pretrained(tmp_path / "llama")
    assert "no vision-language model" in refused("--model.teacher", str(tmp_path / "llama"), code=1)


def test_the_process_ends_with_it(ends):
    _, err = ends("bad", "--data.batch_size", "0", code=2)
    assert "data.batch_size: 0 must be at least 1" in err and "Traceback" not in err


@pytest.mark.filterwarnings("default")
def test_command_line_changes_a_nested_setting(train):
    out = train(
        "rank",
        "--model.scorer",
        "asymvlm.scorers.low_rank.LowRankScorer",
        "--model.scorer.rank",
        "6",
    )
    assert asymvlm.load_scorer(out / "scorer").scorer.arguments["rank"] == 6


def test_runs_that_start_together_keep_their_own_numbers(monkeypatch):
    """Processes that start in one second: each one's name for its CSV files is its own."""
    names = set()
    for process in (1, 2):
        monkeypatch.setattr(os, "getpid", lambda process=process: process)
        logger = Namespace(
            class_path="lightning.pytorch.loggers.CSVLogger",
            init_args=Namespace(save_dir="x", version=None),
        )
        cli = SimpleNamespace(config=Namespace(trainer=Namespace(logger=[logger])))
        TrainingCLI.before_instantiate_classes(cli)
        names.add(logger.init_args.version)
    assert len(names) == 2


def test_a_name_of_one_s_own_for_numbers_stays():
    logger = Namespace(
        class_path="lightning.pytorch.loggers.CSVLogger",
        init_args=Namespace(save_dir="x", version="mine"),
    )
    TrainingCLI.before_instantiate_classes(
        SimpleNamespace(config=Namespace(trainer=Namespace(logger=logger)))
    )
    assert logger.init_args.version == "mine"
