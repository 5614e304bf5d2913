"""A disk that is full at each write: one line that names the place, and nothing half-written.

A limit on the size of files stands for the full disk: it holds for libraries' writers in other
languages, too.
"""

from __future__ import annotations

import resource
import shutil
from contextlib import contextmanager

import pytest
from support import ROOT
from support import SMALL as SMALL_CONFIG

from asymvlm.evaluation.main import main as evaluate
from asymvlm.export import main as export
from asymvlm.training.main import main as train

pytestmark = pytest.mark.filterwarnings("default")  # Lightning's and jsonargparse's own

CONFIG = ["--config", str(ROOT / "configs/tiny.yaml"), "--config", str(SMALL_CONFIG)]


@contextmanager
def full_behind(size):
    """Let no file grow beyond `size` bytes while open."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def files(folder):
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


@pytest.fixture(scope="module")
def done(teacher, tmp_path_factory):
    """A folder in which a training has ended well."""
    folder = tmp_path_factory.mktemp("done")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert train(flags(teacher)) == 0
    return folder


@pytest.fixture
def again(done, tmp_path, monkeypatch):
    """A copy of it, to work in."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(done, tmp_path, dirs_exist_ok=True)
    return tmp_path


def flags(teacher):
    where = ["--model.teacher", str(teacher), "--data.root", "data"]
    where += ["--trainer.default_root_dir", "run", "--trainer.logger", "false"]
    return [*CONFIG, *where, "--trainer.max_epochs", "1"]


# What is missing before the run, how large a file may be (what comes before it is smaller), and
# where the line says that it failed.
WRITES = {
    "pages": (["data"], 20_000, "data.root: data/world-v"),
    "targets": (["data/targets"], 100_000, "data/targets/train-"),
    "config": (["run"], 1_000, "run/config.yaml"),
    "checkpoint": (["run"], 100_000, "run/best.ckpt"),
}


@pytest.mark.parametrize("write", WRITES)
def test_training(again, teacher, capsys, write):
    missing, size, says = WRITES[write]
    for name in missing:
        shutil.rmtree(again / name)
    before = files(again)
    with full_behind(size):
        assert train(flags(teacher)) == 1
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith(f"error: {says}") and "File too large" in line
    assert files(again) - before <= {"run/config.yaml"}
    assert before <= files(again)


def test_export(again, capsys):
    scorer = files(again / "run/scorer")
    with full_behind(10_000):
        assert export(["run/best.ckpt", "new"]) == 1
        assert export(["run/best.ckpt", "run/scorer"]) == 1
    errors = capsys.readouterr().err
    assert "/new: File too large" in errors and "/run/scorer: File too large" in errors
    assert not files(again / "new") and files(again / "run/scorer") == scorer


def test_evaluation(again, teacher, capsys):
    data = ["--data.root", "data", "--pages", "2", "--methods", "{random: Random}"]
    said = ["--teacher", str(teacher), "--scorer", "null", "--keeps", "[0.5]"]
    command = [*said, *data, "--output", "out"]
    with full_behind(20_000):
        assert evaluate(command) == 1
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("error: data.root: data/world-v") and "File too large" in line
    assert evaluate(command) == 0
    shutil.rmtree(again / "out")
    with full_behind(200):
        assert evaluate(command) == 1
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("error: out/") and "File too large" in line
    assert not files(again / "out")
