"""A model's files are data: what would be code is not run, and what is damaged is one line."""

from __future__ import annotations

import json
import os
import shutil

import pytest
import torch
from safetensors.torch import load_file
from support import ROOT

from asymvlm.distillation.teacher import Teacher
from asymvlm.errors import DataError
from asymvlm.export import read_checkpoint
from asymvlm.methods.common.clip_similarity import ClipSimilarity
from asymvlm.training.checkpoint_io import WholeFileCheckpointIO

CLIP = ROOT / "checkpoints/tiny-teacher/clip"
ADVICE = ("weights_only", "trust_remote_code", "\n")


class Runs:
    """An object that runs a command where it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


@pytest.fixture
def model(teacher, tmp_path):
    """A copy of a teacher's directory, and a file that foreign code would make."""
    shutil.copytree(teacher, tmp_path / "model")
    return tmp_path / "model", tmp_path / "mark"


def refused(load, mark):
    with pytest.raises(DataError) as error:
        load()
    assert not mark.exists()
    assert not [word for word in ADVICE if word in str(error.value)]
    return str(error.value)


def bring_code(folder, mark, file, **names):
    """Let a model's file name classes of the model's own."""
    (folder / "own.py").write_text(f"import pathlib\npathlib.Path({str(mark)!r}).touch()\n")
    settings = json.loads((folder / file).read_text()) | names
    (folder / file).write_text(json.dumps(settings))


@pytest.mark.parametrize(
    "file,names,setting",
    [
        ("config.json", {"model_type": "own", "auto_map": {"AutoConfig": "own.C"}}, "teacher: "),
        (
            "processor_config.json",
            {"processor_class": "Own", "auto_map": {"AutoProcessor": "own.P"}},
            "teacher: ",
        ),
    ],
)
def test_code_that_a_model_brings_is_never_run(model, file, names, setting, monkeypatch):
    folder, mark = model
    bring_code(folder, mark, file, **names)
    asked = []
    monkeypatch.setattr("builtins.input", lambda text: asked.append(text) or "y")
    text = refused(lambda: Teacher.load(str(folder)), mark)
    assert not asked
    assert text.startswith(setting)
    assert "it brings Python code of its own, which is never run here" in text


def test_pickled_objects_are_not_loaded(model):
    folder, mark = model
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save({"x": Runs(mark), **weights}, folder / "pytorch_model.bin")
    text = refused(lambda: Teacher.load(str(folder)), mark)
    assert "its weights are no plain tensors, and nothing else is unpickled" in text


@pytest.mark.parametrize("size", [0, 100, 10_000])
def test_damaged_weights_are_one_line(model, size):
    folder, mark = model
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:size])
    assert f"teacher: {folder} could not be loaded (" in refused(
        lambda: Teacher.load(str(folder)), mark
    )


def test_so_are_clip_s(tmp_path):
    shutil.copytree(CLIP, tmp_path / "clip")
    file = tmp_path / "clip/model.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    load = lambda: ClipSimilarity(str(tmp_path / "clip"))  # noqa: E731
    assert f"clip: {tmp_path / 'clip'} could not be loaded (" in refused(load, tmp_path / "mark")
    bring_code(tmp_path / "clip", tmp_path / "mark", "config.json", model_type="own",
               auto_map={"AutoConfig": "own.C"})  # fmt: skip
    assert "which is never run here" in refused(load, tmp_path / "mark")


@pytest.mark.parametrize("read", [read_checkpoint, WholeFileCheckpointIO().load_checkpoint])
def test_a_foreign_checkpoint_is_one_line(read, tmp_path):
    """Damaged, with a pickled object in it, of something else, or on another machine."""
    files = [tmp_path / f"{name}.ckpt" for name in ("damaged", "foreign", "other", "pickle")]
    files[0].write_bytes(b"PK\3\4 no more")
    torch.save({"state_dict": {"x": Runs(tmp_path / "mark")}}, files[1])
    torch.save([1, 2], files[2])
    files[3].write_bytes(b"\x80\4K\1.")
    for path in (*map(str, files), "https://nowhere.invalid/best.ckpt"):
        assert path in refused(lambda path=path: read(path), tmp_path / "mark")
