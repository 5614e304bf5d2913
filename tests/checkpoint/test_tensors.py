"""The tensors of a scorer directory: names, shapes and values, in the code and in files."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import asymvlm
from asymvlm.check import check_directory, is_scorer
from asymvlm.check import main as check
from asymvlm.check.schema import BUDGET_TENSORS, KINDS
from asymvlm.checkpoint.scorer import TrainedScorer, save_scorer
from asymvlm.errors import DataError
from asymvlm.scorers import BudgetHead, scorers

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
        (set_one(float("nan")), "scorer.vision.weight holds nan, must be finite"),
        (set_one(float("inf")), "scorer.vision.weight holds inf, must be finite"),
        (set_one(-float("inf")), "scorer.vision.weight holds inf, must be finite"),
        (set_one(65505.0), "scorer.vision.weight holds 65505, must be finite and at most 65504"),
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


def test_a_scorer_in_half_precision_is_published_in_full(tmp_path):
    directory = save_scorer(made().to(torch.bfloat16), tmp_path / "scorer", "card")
    assert {one.dtype for one in load_file(directory / "model.safetensors").values()} == {
        torch.float32
    }
    assert check([str(directory)]) == 0


def sized(tensors, width, inner):
    sizes = {"D": width, "C": inner, "2C": 2 * inner, "3C": 3 * inner, "2C+16": 2 * inner + 16}
    return {name: tuple(sizes.get(size, size) for size in shape) for name, shape in tensors.items()}


@pytest.mark.parametrize("kind", sorted(scorers()))
def test_the_schema_knows_every_scorer(kind):
    made = scorers()[kind](WIDTH)
    assert made.arguments.keys() == {"width", *KINDS[kind].arguments}
    inner = made.arguments.get("rank", made.arguments.get("hidden", 0))
    assert sized(KINDS[kind].tensors, WIDTH, inner) == {
        name: tuple(one.shape) for name, one in made.state_dict().items()
    }


def test_the_schema_knows_the_budget_head():
    head = BudgetHead(WIDTH, 3)
    assert head.arguments.keys() == {"width", "hidden"}
    assert sized(BUDGET_TENSORS, WIDTH, 3) == {
        name: tuple(one.shape) for name, one in head.state_dict().items()
    }


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
            save_file(changed, directory / "model.safetensors")
            with pytest.raises(DataError, match=re.escape(f"tensor {name} holds nan")):
                check_directory(directory)
            changed[name] = tensor
            save_file(changed, tmp_path / "scorer/model.safetensors")
