"""Exporting a training checkpoint: into which folders, of which files, and with which weights."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import asymvlm
from asymvlm import export
from asymvlm.check import BUDGET_TENSORS, TENSORS, is_scorer, problems
from asymvlm.check import main as check
from asymvlm.checkpoint import TrainedScorer, save_scorer, scorer_from
from asymvlm.errors import DataError
from asymvlm.front_door import run
from asymvlm.scorers import BudgetHead, Scorer, scorers

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
    return run(export._main, [str(argument) for argument in arguments])


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
    assert exported("last.ckpt", ".") == exported("last.ckpt", "..") == exported("last.ckpt", "/") == 2
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


def spoil(directory, change):
    file = directory / "model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)


def set_one(value):
    def change(tensors):
        tensors["scorer.vision.weight"][0, 3] = value

    return change


def cast(dtype):
    return lambda tensors: tensors.update({"scorer.text.weight": tensors["scorer.text.weight"].to(dtype)})


@pytest.mark.parametrize("change,says", [
    (set_one(float("nan")), "scorer.vision.weight holds values that are not finite"),
    (set_one(float("inf")), "scorer.vision.weight holds values that are not finite"),
    (set_one(-float("inf")), "scorer.vision.weight holds values that are not finite"),
    (cast(torch.int64), "scorer.text.weight is of I64, must be of F32"),
    (cast(torch.float64), "scorer.text.weight is of F64, must be of F32"),
    (cast(torch.bfloat16), "scorer.text.weight is of BF16, must be of F32"),
    (cast(torch.bool), "scorer.text.weight is of BOOL, must be of F32"),
])  # fmt: skip
def test_weights_that_are_no_numbers_are_refused(tmp_path, capsys, change, says):
    directory = save_scorer(made(), tmp_path / "scorer", "card")
    spoil(directory, change)
    assert check([str(directory)]) == 1 and says in capsys.readouterr().err
    with pytest.raises(DataError, match="model.safetensors: tensor " + says.split(",")[0]):
        asymvlm.load_scorer(directory)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_not_published(checkpoint, tmp_path, capsys, value):
    stored = torch.load(checkpoint)
    stored["state_dict"]["budget_head.words.bias"].fill_(value)
    torch.save(stored, checkpoint)
    assert exported(checkpoint, tmp_path / "scorer") == 1
    assert "budget.words.bias of the scorer is not finite" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_an_adapter_that_is_no_number_is_refused(tmp_path, dtype):
    directory = save_scorer(made(), tmp_path / "scorer", "card")
    (directory / "adapter").mkdir()
    (directory / "adapter/adapter_config.json").write_text("{}")
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | {"adapter": "adapter"}))
    tensor = torch.linspace(-1e4, 1e4, 7).to(dtype)
    save_file({"lora_A": tensor}, directory / "adapter/adapter_model.safetensors")
    assert problems(directory) == []
    tensor[2] = float("nan")
    save_file({"lora_A": tensor}, directory / "adapter/adapter_model.safetensors")
    (said,) = problems(directory)
    assert "adapter/adapter_model.safetensors: tensor lora_A holds values that are not" in said


def test_a_scorer_in_half_precision_is_published_in_full(tmp_path):
    directory = save_scorer(made().to(torch.bfloat16), tmp_path / "scorer", "card")
    assert {one.dtype for one in load_file(directory / "model.safetensors").values()} == {torch.float32}
    assert check([str(directory)]) == 0


def shapes_of(kind, arguments):
    config = {"scorer": {"kind": kind, "arguments": arguments}, "budget": None, "masked_ids": []}
    with torch.device("meta"):
        state = scorer_from(config).state_dict()
    return {name.removeprefix("scorer."): tuple(one.shape) for name, one in state.items()}


@pytest.mark.parametrize("kind", sorted(scorers()))
def test_check_knows_the_tensors_of_every_scorer(kind):
    arguments = scorers()[kind](WIDTH).arguments
    inner = arguments.get("rank", arguments.get("hidden", 0))
    sizes = {"D": WIDTH, "C": inner, "2C": 2 * inner, "3C": 3 * inner}
    table = {
        name: tuple(sizes.get(size, size) for size in shape) for name, shape in TENSORS[kind].items()
    }
    assert table == shapes_of(kind, arguments)


def page_tables():
    """Kinds with their tensors, and those of the budget head, as docs/checkpoint-format.md has them."""
    page = (Path(__file__).parent.parent / "docs/checkpoint-format.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| (`\w[^|]*) \|$", page.split("tensors under `scorer.`")[1], re.M))
    context = page.split("Context is ")[1].split(":")[0]
    budget = page.split("Under `budget.`")[1].split("\n\n")[0]
    return {kind: row + context * row.endswith(", context") for kind, row in rows.items()}, budget


def tensors_in(text):
    found = re.findall(r"`([\w.]+) \[([^]]+)\]`", text)
    return {
        name: tuple(int(size) if size.isdigit() else size for size in shape.split(", "))
        for name, shape in found
    }


def test_the_page_names_every_tensor():
    kinds, budget = page_tables()
    assert {kind: tensors_in(row) for kind, row in kinds.items()} == TENSORS
    assert tensors_in(budget) == BUDGET_TENSORS and set(kinds) == set(scorers())
    with torch.device("meta"):
        head = BudgetHead(WIDTH, 3).state_dict()
    sizes = {"D": WIDTH, "C": 3, "2C": 6, "2C+16": 22}
    expected = {name: tuple(sizes.get(size, size) for size in shape) for name, shape in BUDGET_TENSORS.items()}
    assert expected == {name: tuple(one.shape) for name, one in head.items()}


def test_a_user_s_own_kind_is_checked_as_far_as_it_is_known(tmp_path, capsys):
    class Own(Scorer):
        kind = "own_kind"

        def __init__(self, width):
            super().__init__(width)
            self.bias = torch.nn.Parameter(torch.zeros(1))

        def forward(self, batch):
            return batch.vision.sum(-1) + self.bias

    directory = save_scorer(TrainedScorer(Own(WIDTH), None), tmp_path / "own", "card")
    assert check([str(directory)]) == 0
    assert "were not checked: 'own_kind'" in capsys.readouterr().out
    spoil(directory, lambda tensors: tensors["scorer.bias"].fill_(float("nan")))
    assert check([str(directory)]) == 1


def test_the_permissions_are_those_of_any_new_file(tmp_path):
    directory = save_scorer(made(), tmp_path / "scorer", "card")
    (tmp_path / "new").touch()
    modes = {path.stat().st_mode for path in directory.iterdir()}
    assert modes == {(tmp_path / "new").stat().st_mode}


def test_a_scorer_directory_is_known_by_its_config(tmp_path):
    directory = save_scorer(made(), tmp_path / "scorer", "card")
    (directory / "model.safetensors").unlink()
    assert is_scorer(directory) and not is_scorer(tmp_path) and not is_scorer(tmp_path / "none")


def test_numpy_reads_what_is_stored(tmp_path):
    """Values in a file are found by their places in it: the first and the last of each tensor."""
    directory = save_scorer(made(), tmp_path / "scorer", "card")
    for name, tensor in load_file(directory / "model.safetensors").items():
        for place in (0, -1):
            changed = load_file(directory / "model.safetensors")
            changed[name].flatten()[place] = np.nan
            changed[name].view(-1)[place] = np.nan
            save_file(changed, tmp_path / "scorer/model.safetensors")
            (said,) = problems(directory)
            assert f"tensor {name} holds values" in said
            changed[name] = tensor
            save_file(changed, tmp_path / "scorer/model.safetensors")
