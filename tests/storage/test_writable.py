"""Whether something can be written is found by trying, before any work."""

from __future__ import annotations

import errno
import os

import pytest

from asymvlm.cli.command import DATA, run_command
from asymvlm.documents.sources.source import DataSource
from asymvlm.errors import DataError
from asymvlm.evaluation.evaluate import Evaluation
from asymvlm.evaluation.main import main as evaluate
from asymvlm.evaluation.robustness.robustness import main as robustness
from asymvlm.evaluation.similarity_sign import main as similarity_sign
from asymvlm.storage.writable import check_writable
from asymvlm.training.fit_eviction import main as fit_eviction
from asymvlm.training.main import main as train


@pytest.fixture
def refuses(monkeypatch):
    """Has the system refuse new files in one folder, as one mounted to be read does."""

    def arrange(folder, number=errno.EROFS):
        import tempfile

        original = tempfile.TemporaryFile

        def temporary(*args, dir, **more):
            if os.path.realpath(dir) == os.path.realpath(folder):
                raise OSError(number, os.strerror(number), str(dir))
            return original(*args, dir=dir, **more)

        monkeypatch.setattr("asymvlm.storage.writable.tempfile.TemporaryFile", temporary)

    return arrange


def test_a_folder_that_takes_files_is_left_as_it_was(tmp_path):
    check_writable(tmp_path, "--output")
    check_writable(tmp_path / "not/there/yet", "--output")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.EROFS, errno.EPERM, errno.EACCES, errno.ENOSPC])
def test_one_that_takes_none_is_named_with_its_setting(number, tmp_path, refuses):
    refuses(tmp_path, number)
    for folder in (tmp_path, tmp_path / "not/there"):
        with pytest.raises(DataError) as refused:
            check_writable(folder, "--output")
        reason = (
            f"--output: {folder} cannot be written ({os.strerror(number)}); name another folder"
        )
        assert str(refused.value) == reason


@pytest.mark.parametrize(
    "command,flags,setting",
    [
        (evaluate, "--scorer null --methods.r Random --teacher x", "--output: results/tiny"),
        (
            evaluate,
            "eviction --scorer null --policies {r:\u00a0Random} --teacher x",
            "--output: res",
        ),
        (robustness, "--scorer null --methods {} --teacher x", "--output: results/robustness"),
        (fit_eviction, "--teacher x", "--output: checkpoints/tiny"),
        (similarity_sign, "--clip x --teacher x", "data.root: data"),
        (evaluate, "--scorer null --methods.r Random --output {else}", "data.root: data"),
        (robustness, "--scorer null --methods {} --output {else}", "data.root: data"),
        (fit_eviction, "--output {else}/rule", "data.root: data"),
        (train, "", "data.root: data"),
        (train, "--data.root {else}", "--trainer.default_root_dir: checkpoints/tiny"),
        (
            train,
            "--data.root {else} --trainer.default_root_dir {else}",
            "save_dir of trainer.logger",
        ),
    ],
)
@pytest.mark.filterwarnings("default")
def test_commands_ask_before_a_model_is_loaded(
    command, flags, setting, tmp_path, refuses, monkeypatch, capsys
):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr("asymvlm.distillation.teacher.Teacher.load", None)
    refuses(here)
    given = [word.replace("{else}", str(tmp_path / "x")) for word in flags.split(" ") if word]
    assert command([word.replace("\u00a0", " ") for word in given]) == DATA
    err = capsys.readouterr().err
    assert f"error: {setting}" in err and "cannot be written (Read-only file system)" in err


def test_pages_that_are_there_need_no_room(tmp_path, refuses):
    refuses(tmp_path / "data")
    (tmp_path / "data/world").mkdir(parents=True)
    DataSource(root=str(tmp_path / "data")).check_root()


def test_errors_of_the_disk_name_the_root(tmp_path, monkeypatch, capsys):
    def full(*args):
        raise OSError(errno.EPERM, "Operation not permitted", "data/world")

    monkeypatch.setattr("asymvlm.documents.sources.source.generated_pages", full)
    command = DataSource(root=str(tmp_path)).pages
    assert run_command(lambda arguments: command("val", 1), []) == DATA
    said = "error: root: data/world: Operation not permitted; name another folder"
    assert capsys.readouterr().err.startswith(said)


@pytest.mark.parametrize("evaluation", ["eval", "eviction", "robustness"])
def test_a_scorer_that_is_not_there_says_how_to_come_by_one(
    evaluation, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("asymvlm.distillation.teacher.Teacher.load", None)
    flags = {"eviction": ["eviction", "--policies", "{r: Random}"]}.get(evaluation, [])
    command = robustness if evaluation == "robustness" else evaluate
    assert command([*flags, *([] if flags else ["--methods", "{}"])]) == DATA
    err = capsys.readouterr().err
    assert err.startswith("error: scorer: checkpoints/tiny/scorer: no such directory; ")
    assert err.endswith("train it first (asymvlm train), or leave it out with --scorer null\n")
    assert Evaluation.scorer == "checkpoints/tiny/scorer"
