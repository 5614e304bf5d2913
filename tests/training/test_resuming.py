"""Going on from a checkpoint: from that file, with what differs said, and nothing old published."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch
from support import ROOT
from support import SMALL as SMALL_CONFIG
from support.scorer_runs import same, weights

from asymvlm.training.distill_module import ImportanceModule
from asymvlm.training.main import main

pytestmark = pytest.mark.filterwarnings("default")  # Lightning's and jsonargparse's own


CONFIG = ["--config", str(ROOT / "configs/tiny.yaml"), "--config", str(SMALL_CONFIG)]
STEPS = 8  # of an epoch of 12 pages with 5 questions, in batches of 8


@pytest.fixture
def train(teacher, data_root, tmp_path, monkeypatch):
    """Runs train.py's command in this process; returns the run's folder."""

    def run(folder, *flags, code=0):
        monkeypatch.chdir(tmp_path)
        where = ["--model.teacher", str(teacher), "--data.root", str(data_root)]
        where += ["--trainer.default_root_dir", folder, "--trainer.logger", "false"]
        assert main([*CONFIG, *where, *flags]) == code
        return tmp_path / folder

    return run


@pytest.fixture
def steps(monkeypatch):
    """The global steps that are trained while a test runs."""
    taken, step = [], ImportanceModule.training_step

    def counted(self, batch, index):
        taken.append(self.global_step)
        return step(self, batch, index)

    monkeypatch.setattr(ImportanceModule, "training_step", counted)
    return taken


@pytest.fixture
def half(train):
    """A run stopped behind its first epoch, as it would be by a signal: `max_epochs` stays 2."""
    return train("half", "--trainer.callbacks+=support.scorer_runs.StopAfterOne")


def stored(file):
    return torch.load(file, weights_only=True)


def test_last_goes_on_at_the_stored_step_and_ends_as_uninterrupted(train, half, steps, capsys):
    assert stored(half / "last.ckpt")["global_step"] == STEPS
    train("half", "--ckpt_path", "last")
    assert steps == list(range(STEPS, 2 * STEPS))
    assert "resuming half/last.ckpt at step 8" in capsys.readouterr().out
    assert stored(half / "last.ckpt")["global_step"] == 2 * STEPS
    steps.clear()
    assert same(weights(half), weights(train("whole"))) and steps == list(range(2 * STEPS))


def test_a_changed_state_ends_elsewhere(train, half):
    whole = train("whole")
    checkpoint = stored(half / "last.ckpt")
    for tensor in checkpoint["state_dict"].values():
        tensor.mul_(1.5)
    torch.save(checkpoint, half / "last.ckpt")
    assert not same(weights(train("half", "--ckpt_path", "last")), weights(whole))


def test_last_is_the_newest_of_the_run_folder(train, half, steps):
    shutil.copy(half / "last.ckpt", half / "last-v1.ckpt")
    checkpoint = stored(half / "last.ckpt")
    checkpoint["state_dict"] = {}
    torch.save(checkpoint, half / "last.ckpt")
    os.utime(half / "last.ckpt", ns=(0, 0))
    train("half", "--ckpt_path", "last")
    assert steps[0] == STEPS


def test_last_without_a_checkpoint_is_refused(train, capsys, steps):
    train("empty", "--ckpt_path", "last", code=1)
    said = capsys.readouterr().err
    assert 'ckpt_path: "last" finds no last.ckpt in ' in said and "empty" in said
    assert steps == []


@pytest.mark.parametrize("content", [b"", b"half a file", None])
def test_a_damaged_checkpoint_is_one_line(train, half, steps, capsys, content):
    file = half / "last.ckpt"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2] if content is None else content)
    capsys.readouterr()
    train("half", "--ckpt_path", "last", code=1)
    said = capsys.readouterr().err
    assert f"{Path('half/last.ckpt')} is damaged" in said and "weights_only" not in said
    assert len([line for line in said.splitlines() if line.startswith("error: ")]) == 1
    assert steps[STEPS:] == []


def test_settings_that_differ_are_listed(train, half, capsys):
    train("half", "--ckpt_path", "last", "--trainer.max_epochs", "3", "--data.batch_size", "4")
    said = capsys.readouterr().out
    assert "differs from the checkpoint: trainer.max_epochs: 2 -> 3" in said
    assert "differs from the checkpoint: data.batch_size: 8 -> 4" in said
    assert "learning_rate" not in said


def test_other_data_and_another_teacher_are_listed(train, half, llava, processor, tmp_path, capsys):
    with torch.no_grad():
        llava.lm_head.weight[0] += 1
    llava.save_pretrained(tmp_path / "other")
    with torch.no_grad():
        llava.lm_head.weight[0] -= 1
    processor.save_pretrained(tmp_path / "other")
    flags = ["--model.teacher", str(tmp_path / "other"), "--data.seed", "1"]
    train("half", "--ckpt_path", "last", *flags)
    said = capsys.readouterr().out
    assert "differs from the checkpoint: model.teacher's weights: model.safetensors:" in said
    assert "differs from the checkpoint: data fingerprint of train: " in said


def test_a_checkpoint_of_an_earlier_version_goes_on(train, half, steps, capsys):
    checkpoint = stored(half / "last.ckpt")
    del checkpoint["settings"], checkpoint["run"]
    torch.save(checkpoint, half / "last.ckpt")
    train("half", "--ckpt_path", "last")
    assert "at step 8, its settings are not known\n" in capsys.readouterr().out
    assert steps == list(range(STEPS, 2 * STEPS))
    assert stored(half / "best.ckpt")["global_step"] == 2 * STEPS


def test_a_best_of_other_settings_does_not_count(train, half):
    """A loss that nothing can beat, of other settings, must not choose what is published."""
    checkpoint = stored(half / "last.ckpt")
    state = next(one for one in checkpoint["callbacks"].values() if "best_model_score" in one)
    for key in ("best_model_score", "kth_value"):
        state[key] = torch.tensor(-1.0)
    state["best_k_models"] = {state["best_model_path"]: torch.tensor(-1.0)}
    torch.save(checkpoint, half / "last.ckpt")
    shutil.copytree(half, half.parent / "same")
    train("half", "--ckpt_path", "last", "--model.optimizer.learning_rate", "0.1")
    assert stored(half / "best.ckpt")["global_step"] == 2 * STEPS
    assert stored(half / "best.ckpt")["run"] != checkpoint["run"]
    train("same", "--ckpt_path", "last")
    last = stored(half.parent / "same/last.ckpt")
    assert last["global_step"] == 2 * STEPS and last["run"] == checkpoint["run"]


def test_an_old_scorer_is_not_published_as_one_of_other_settings(train, steps, capsys):
    out = train("done")
    before, last = weights(out), (out / "last.ckpt").read_bytes()
    steps.clear()
    train("done", "--ckpt_path", "last", "--model.optimizer.learning_rate", "0.1", code=1)
    assert "ExportScorer: this run has no checkpoint to publish" in capsys.readouterr().err
    assert same(weights(out), before) and (out / "last.ckpt").read_bytes() == last and steps == []
    assert "learning_rate: 0.003" in (out / "config.yaml").read_text()


def test_a_best_checkpoint_of_another_run_is_not_published(train, half, monkeypatch, capsys):
    other = (train("other", "--seed_everything", "1") / "best.ckpt").read_bytes()
    ended = ImportanceModule.on_train_end

    def swapped(self):
        ended(self)
        (half / "best.ckpt").write_bytes(other)

    monkeypatch.setattr(ImportanceModule, "on_train_end", swapped)
    before = weights(half)
    train("half", "--ckpt_path", "last", code=1)
    assert "best.ckpt is not this run's and is not published" in capsys.readouterr().err
    assert same(weights(half), before)


def test_a_finished_run_can_be_published_again(train):
    out = train("done")
    before = weights(out)
    shutil.rmtree(out / "scorer")
    assert same(weights(train("done", "--ckpt_path", "last")), before)


def test_a_new_run_keeps_the_checkpoints_of_an_earlier_one(train, half, capsys):
    files = {name: (half / name).read_bytes() for name in ("best.ckpt", "last.ckpt", "config.yaml")}
    train("half", "--seed_everything", "1")
    (kept,) = half.glob("earlier-*")
    assert {file.name: file.read_bytes() for file in kept.iterdir()} == files
    assert f"are kept in {Path('half') / kept.name}" in capsys.readouterr().out
    assert stored(half / "last.ckpt")["run"] != stored(kept / "last.ckpt")["run"]


def test_a_checkpoint_of_another_model_is_one_line(train, half, capsys):
    scorer = ["--model.scorer", "asymvlm.scorers.low_rank.LowRankScorer"]
    train("half", "--ckpt_path", "last", *scorer, code=1)
    assert "half/last.ckpt does not fit the model's settings" in capsys.readouterr().err


def test_a_full_disk_leaves_the_checkpoint_before(train, half, monkeypatch, capsys):
    before, save = (half / "last.ckpt").read_bytes(), torch.save

    def full(value, file, *args, **kwargs):
        save(value, file, *args, **kwargs)
        file.truncate(100)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    train("half", "--ckpt_path", "last", code=1)
    assert (half / "last.ckpt").read_bytes() == before
    assert "last.ckpt: No space left on device" in capsys.readouterr().err.replace("best", "last")
    assert {file.name for file in half.iterdir()} == {
        "best.ckpt",
        "last.ckpt",
        "config.yaml",
        "scorer",
    }
