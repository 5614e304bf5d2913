"""Exporting a training checkpoint: into which folders, of which files, and with which weights."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

import asymvlm
from asymvlm import export
from asymvlm.check import main as check
from asymvlm.checkpoint.scorer import TrainedScorer, save_scorer
from asymvlm.errors import DataError
from asymvlm.scorers import BudgetHead, scorers

WIDTH = 16
ABOUT = {
    "teacher": {"name": "t", "weights": ""},
    "data": {"fingerprints": {}},
    "training": {"epochs": 1, "steps": 2, "seed": 0, "commit": None, "metrics": {"val/loss": 1.0}},
}


def made(kind="low_rank"):
    torch.manual_seed(0)
    return TrainedScorer(scorers()[kind](WIDTH), BudgetHead(WIDTH), (0, 3), ABOUT)


@pytest.fixture
def checkpoint(tmp_path):
    """A training checkpoint, as train.py writes it."""
    trained = made()
    state = {f"scorer.{name}": one for name, one in trained.scorer.state_dict().items()}
    state |= {f"budget_head.{name}": one for name, one in trained.budget.state_dict().items()}
    (tmp_path / "run").mkdir()
    file = tmp_path / "run/last.ckpt"
    torch.save({"asymvlm": {"config": trained.config()}, "state_dict": state}, file)
    return file


def exported(*arguments):
    return export.main([str(argument) for argument in arguments])


def snapshot(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("target", ["new", "empty", "a name with ü", "deep/er/new", "new/"])
def test_into_a_new_or_empty_folder(checkpoint, tmp_path, target):
    (tmp_path / "empty").mkdir()
    assert exported(checkpoint, f"{tmp_path}/{target}") == 0
    assert check([str(tmp_path / target)]) == 0


def test_into_a_scorer_directory_others_files_stay(checkpoint, tmp_path):
    target = save_scorer(made("diagonal"), tmp_path / "scorer", "card")
    (target / "notes.txt").write_text("mine")
    (target / "adapter").mkdir()
    (target / "adapter/adapter_config.json").write_text("{}")
    (tmp_path / "link").symlink_to("scorer")
    assert exported(checkpoint, tmp_path / "link") == 0
    assert asymvlm.load_scorer(target).scorer.kind == "low_rank"
    assert (target / "notes.txt").read_text() == "mine" and not (target / "adapter").exists()
    assert (tmp_path / "link").is_symlink()


def somebody_s(tmp_path, kind):
    folder = tmp_path / "folder"
    folder.mkdir()
    if kind == "notes":
        (folder / "notes.txt").write_text("mine")
    if kind == "model":
        (folder / "config.json").write_text(json.dumps({"model_type": "llava"}))
        (folder / "model.safetensors").write_bytes(b"weights")
    if kind == "checkout":
        (folder / ".git").mkdir()
        (folder / ".git/HEAD").write_text("ref")
    if kind == "no json":
        (folder / "config.json").write_text("format: asymvlm-scorer")
    return folder


@pytest.mark.parametrize("kind", ["notes", "model", "checkout", "no json"])
def test_another_folder_is_refused_and_stays(checkpoint, tmp_path, capsys, kind):
    folder = somebody_s(tmp_path, kind)
    before = snapshot(tmp_path)
    assert exported(checkpoint, folder) == 2
    assert f"{folder} is no scorer directory and not empty" in capsys.readouterr().err
    assert snapshot(tmp_path) == before


def test_the_run_s_own_folder_is_refused(checkpoint, tmp_path, capsys, monkeypatch):
    before = snapshot(tmp_path)
    assert exported(checkpoint, checkpoint.parent) == 2
    monkeypatch.chdir(checkpoint.parent)
    assert (
        exported("last.ckpt", ".") == exported("last.ckpt", "..") == exported("last.ckpt", "/") == 2
    )
    assert snapshot(tmp_path) == before and "last.ckpt" in capsys.readouterr().err


@pytest.mark.parametrize("target", ["run/last.ckpt", "run/last.ckpt/scorer"])
def test_a_file_in_the_way_is_refused(checkpoint, tmp_path, capsys, target):
    before = snapshot(tmp_path)
    assert exported(checkpoint, tmp_path / target) == 2
    assert "is a file; name a folder" in capsys.readouterr().err and snapshot(tmp_path) == before


DAMAGED = {
    "empty": lambda file: file.write_bytes(b""),
    "half": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "text": lambda file: file.write_text("not a checkpoint"),
    "flipped": lambda file: file.write_bytes(b"PK\x03\x04" + os.urandom(2000)),
    "a list": lambda file: torch.save([1, 2], file),
    "no state": lambda file: torch.save({"asymvlm": {"config": {}}}, file),
    "an object": lambda file: torch.save({"state_dict": {}, "x": Path}, file),
    "no scorer": lambda file: torch.save({"state_dict": {}}, file),
    "no config": lambda file: torch.save({"state_dict": {}, "asymvlm": {"config": {}}}, file),
    "null": lambda file: torch.save({"state_dict": {}, "asymvlm": None}, file),
    "absent": lambda file: file.unlink(),
    "folder": lambda file: (file.unlink(), file.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_checkpoint_is_one_line(checkpoint, tmp_path, capsys, damage):
    DAMAGED[damage](checkpoint)
    assert exported(checkpoint, tmp_path / "scorer") == 1
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1 and str(checkpoint) in said
    assert "weights_only" not in said and "Traceback" not in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


@pytest.mark.parametrize(
    "part,value,says",
    [
        ("budget", [], "scorer config: budget is [], must be null or an object"),
        ("masked_ids", [-1], "scorer config: masked_ids is [-1], must be a list of integers"),
        ("input", {"stage": "pixels"}, 'input.stage is "pixels", must be "llm_input"'),
        ("budget", None, "state_dict: tensor budget.ratio.0.bias is there, must be left out"),
    ],
)
def test_what_check_would_refuse_is_not_written(checkpoint, tmp_path, capsys, part, value, says):
    stored = torch.load(checkpoint)
    stored["asymvlm"]["config"][part] = value
    torch.save(stored, checkpoint)
    assert exported(checkpoint, tmp_path / "scorer") == 1
    said = capsys.readouterr().err
    assert says in said and len(said.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_a_metric_that_was_no_number(checkpoint, tmp_path):
    stored = torch.load(checkpoint)
    stored["asymvlm"]["config"]["training"]["metrics"]["val/ndcg"] = None
    torch.save(stored, checkpoint)
    assert exported(checkpoint, tmp_path / "scorer") == 0
    card = (tmp_path / "scorer/README.md").read_text()
    assert "| val/ndcg | no number |" in card and "| val/loss | 1.0000 |" in card


@pytest.mark.parametrize("about", [{"data": {1j: 2}}, {"training": {"seed": Path("x")}}])
def test_what_json_cannot_write_is_refused(tmp_path, about):
    trained = made()
    trained.about = about
    with pytest.raises(DataError, match=r"is not written, since config.json: "):
        save_scorer(trained, tmp_path / "scorer", "card")
    assert not (tmp_path / "scorer").exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_not_published(checkpoint, tmp_path, capsys, value):
    stored = torch.load(checkpoint)
    stored["state_dict"]["budget_head.words.bias"].fill_(value)
    torch.save(stored, checkpoint)
    assert exported(checkpoint, tmp_path / "scorer") == 1
    assert f"tensor budget.words.bias holds {value}, must be" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]
