"""The checkpoint directory: round trip, refusal of what is broken, never half written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import asymvlm
from asymvlm.check import main as check
from asymvlm.checkpoint.scorer import TrainedScorer, save_scorer
from asymvlm.errors import DataError
from asymvlm.scorers import BudgetHead, TokenBatch, scorers

WIDTH = 16


def make(kind="low_rank", budget=True):
    torch.manual_seed(0)
    return TrainedScorer(
        scorers()[kind](WIDTH),
        BudgetHead(WIDTH) if budget else None,
        (0, 3),
        {"teacher": {"name": "t"}},
    )


@pytest.mark.parametrize("kind", sorted(scorers()))
@pytest.mark.parametrize("budget", [True, False])
def test_round_trip(tmp_path, kind, budget):
    made = make(kind, budget)
    directory = save_scorer(made, tmp_path / "scorer", "# card\n")
    assert check([str(directory)]) == 0
    loaded = asymvlm.load_scorer(directory)
    grid = torch.zeros(5, 3, dtype=torch.long)
    grid[:, 2] = torch.arange(5)
    batch = TokenBatch.single(torch.randn(5, WIDTH), torch.randn(3, WIDTH), grid)
    for got, want in zip(loaded(batch), made.eval()(batch), strict=True):
        assert got is want is None or torch.equal(got, want)
    assert loaded.masked_ids == (0, 3) and loaded.config() == made.config()


def test_saving_twice_replaces_and_leaves_nothing_behind(tmp_path):
    save_scorer(make(), tmp_path / "scorer", "one")
    save_scorer(make("diagonal"), tmp_path / "scorer", "two")
    assert asymvlm.load_scorer(tmp_path / "scorer").scorer.kind == "diagonal"
    assert [path.name for path in tmp_path.iterdir()] == ["scorer"]


def test_a_failed_save_keeps_the_old_one(tmp_path):
    save_scorer(make(), tmp_path / "scorer", "one")
    with pytest.raises(TypeError):
        save_scorer(make("diagonal"), tmp_path / "scorer", card=None)
    assert asymvlm.load_scorer(tmp_path / "scorer").scorer.kind == "low_rank"
    assert [path.name for path in tmp_path.iterdir()] == ["scorer"]


@pytest.mark.parametrize("failure", [OSError, KeyboardInterrupt])
def test_a_failed_rename_puts_the_old_one_back(tmp_path, monkeypatch, failure):
    """Where the file system cannot exchange two names."""
    monkeypatch.setattr("asymvlm.storage.atomic._exchanged", lambda first, second: False)
    save_scorer(make(), tmp_path / "scorer", "one")
    rename = os.replace

    def refuse(source, place):
        if (Path(source) / "README.md").is_file() and (
            Path(source) / "README.md"
        ).read_text() == "two":
            raise failure("stopped here")
        rename(source, place)

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(failure, match="stopped here"):
        save_scorer(make("diagonal"), tmp_path / "scorer", "two")
    assert asymvlm.load_scorer(tmp_path / "scorer").scorer.kind == "low_rank"
    assert [path.name for path in tmp_path.iterdir()] == ["scorer"]


def change(directory, **values):
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def truncate(directory):
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize(
    "break_it,says",
    [
        (lambda d: (d / "model.safetensors").unlink(), "model.safetensors is missing"),
        (lambda d: (d / "config.json").unlink(), "config.json is missing, must be a file"),
        (lambda d: (d / "config.json").write_text("{"), "config.json is not JSON"),
        (truncate, "model.safetensors is truncated, or no"),
        (lambda d: change(d, format="other"), 'format is "other", must be "asymvlm-scorer"'),
        (lambda d: change(d, format_version=99), "format_version is 99, must be 1; update asymvlm"),
        (
            lambda d: change(d, polarity="lower_keeps"),
            'polarity is "lower_keeps", must be "higher_keeps"',
        ),
        (lambda d: change(d, input={"width": 8}), "input.stage is missing"),
        (
            lambda d: change(d, scorer={"kind": "low_rank", "arguments": {"width": 16, "rank": 4}}),
            "is of shape [48], must be [4], as the config has it",
        ),
        (
            lambda d: change(d, scorer={"kind": "future", "arguments": {"width": 16}}),
            "update asymvlm",
        ),
        (lambda d: change(d, budget=None), "must be left out: it is not part of"),
    ],
)
def test_broken_directories_name_the_file_and_the_fault(tmp_path, capsys, break_it, says):
    directory = save_scorer(make(), tmp_path / "scorer", "card")
    break_it(directory)
    with pytest.raises(DataError) as error:
        asymvlm.load_scorer(directory)
    assert says in str(error.value) and str(directory) in str(error.value)
    assert check([str(directory)]) == 1 and capsys.readouterr().err == f"{error.value}\n"


def test_missing_directory():
    with pytest.raises(DataError, match="no such directory"):
        asymvlm.load_scorer("/nowhere/at/all")
    assert check(["/nowhere/at/all"]) == 1 and check([]) == 2


BLOCKED = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked}:
            raise ImportError("blocked: " + name)
sys.meta_path.insert(0, Refuse())
{body}
"""


def run_without(packages, body):
    code = BLOCKED.format(blocked=set(packages), body=body)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_loader_needs_torch_and_safetensors_only(tmp_path):
    directory = save_scorer(make(), tmp_path / "scorer", "card")
    absent = [
        "transformers",
        "lightning",
        "wandb",
        "datasets",
        "peft",
        "jaxtyping",
        "torchmetrics",
        "rich",
        "matplotlib",
        "PIL",
    ]
    done = run_without(
        absent, f"import asymvlm; print(asymvlm.load_scorer({str(directory)!r}).width)"
    )
    assert done.stdout.strip() == "16", done.stderr


def test_check_needs_no_torch(tmp_path):
    directory = save_scorer(make(), tmp_path / "scorer", "card")
    body = f"import runpy; sys.argv = ['check', {str(directory)!r}]; "
    body += "runpy.run_module('asymvlm.check', run_name='__main__')"
    done = run_without(["torch", "transformers", "lightning"], body)
    assert done.returncode == 0, done.stderr


def test_import_is_light():
    heavy = ("torch", "lightning", "wandb", "datasets", "peft")
    body = f"import asymvlm; print([n for n in {heavy} if n in sys.modules])"
    assert run_without([], body).stdout.strip() == "[]"


def test_wrong_width_names_both(llava, batch):
    with (
        pytest.raises(ValueError, match="trained for a width of 16, this model's is 40"),
        asymvlm.prune(llava, make()),
    ):
        llava(**batch)
