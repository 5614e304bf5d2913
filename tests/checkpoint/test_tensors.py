"""The tensors of a scorer directory.

Names, shapes and values, in the code, on the page and in files.
"""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support import ROOT

import asymvlm
from asymvlm.check import BUDGET_TENSORS, TENSORS, is_scorer, problems
from asymvlm.check import main as check
from asymvlm.checkpoint.scorer import TrainedScorer, save_scorer, scorer_from
from asymvlm.errors import DataError
from asymvlm.scorers import BudgetHead, Scorer, scorers

WIDTH = 16


def made(kind="low_rank"):
    torch.manual_seed(0)
    return TrainedScorer(
        scorers()[kind](WIDTH), BudgetHead(WIDTH), (0, 3), {"teacher": {"name": "t"}}
    )


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
    return lambda tensors: tensors.update(
        {"scorer.text.weight": tensors["scorer.text.weight"].to(dtype)}
    )


@pytest.mark.parametrize(
    "change,says",
    [
        (set_one(float("nan")), "scorer.vision.weight holds values that are not finite"),
        (set_one(float("inf")), "scorer.vision.weight holds values that are not finite"),
        (set_one(-float("inf")), "scorer.vision.weight holds values that are not finite"),
        (cast(torch.int64), "scorer.text.weight is of I64, must be of F32"),
        (cast(torch.float64), "scorer.text.weight is of F64, must be of F32"),
        (cast(torch.bfloat16), "scorer.text.weight is of BF16, must be of F32"),
        (cast(torch.bool), "scorer.text.weight is of BOOL, must be of F32"),
    ],
)
def test_weights_that_are_no_numbers_are_refused(tmp_path, capsys, change, says):
    directory = save_scorer(made(), tmp_path / "scorer", "card")
    spoil(directory, change)
    assert check([str(directory)]) == 1 and says in capsys.readouterr().err
    with pytest.raises(DataError, match="model.safetensors: tensor " + says.split(",")[0]):
        asymvlm.load_scorer(directory)


def drop(config, *path):
    for key in path[:-1]:
        config = config[key]
    del config[path[-1]]


def put(config, value, *path):
    for key in path[:-1]:
        config = config[key]
    config[path[-1]] = value


@pytest.mark.parametrize(
    "change,says",
    [
        (lambda config: drop(config, "budget"), "'budget' must be null or hold 'arguments'"),
        (
            lambda config: drop(config, "scorer", "arguments", "width"),
            "'scorer.arguments.width' is None",
        ),
        (
            lambda config: put(config, "16", "scorer", "arguments", "width"),
            "'scorer.arguments.width' is '16'",
        ),
        (
            lambda config: put(config, 0, "scorer", "arguments", "rank"),
            "'scorer.arguments.rank' is 0",
        ),
        (
            lambda config: put(config, True, "budget", "arguments", "hidden"),
            "'budget.arguments.hidden' is True",
        ),
    ],
)
def test_sizes_that_are_none_are_one_line(tmp_path, capsys, change, says):
    directory = save_scorer(made(), tmp_path / "scorer", "card")
    config = json.loads((directory / "config.json").read_text())
    change(config)
    (directory / "config.json").write_text(json.dumps(config))
    assert check([str(directory)]) == 1 and says in capsys.readouterr().err
    with pytest.raises(DataError, match=re.escape(says)):
        asymvlm.load_scorer(directory)


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
    assert {one.dtype for one in load_file(directory / "model.safetensors").values()} == {
        torch.float32
    }
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
        name: tuple(sizes.get(size, size) for size in shape)
        for name, shape in TENSORS[kind].items()
    }
    assert table == shapes_of(kind, arguments)


def page_tables():
    """Kinds with their tensors, and those of the budget head, as docs/checkpoint-format.md has
    them.
    """
    page = (ROOT / "docs/checkpoint-format.md").read_text()
    rows = dict(
        re.findall(r"^\| `(\w+)` \| (`\w[^|]*) \|$", page.split("tensors under `scorer.`")[1], re.M)
    )
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
    expected = {
        name: tuple(sizes.get(size, size) for size in shape)
        for name, shape in BUDGET_TENSORS.items()
    }
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
