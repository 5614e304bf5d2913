"""Trainings of adapters on a small random teacher."""

from __future__ import annotations

import pytest
from safetensors.torch import load_file

from asymvlm.training.main import main

# Lightning's, jsonargparse's and peft's own, as a user would see them.
from . import ROOT, SMALL

CONFIG = [
    "--config",
    str(ROOT / "configs/vision-selector.yaml"),
    "--config",
    str(SMALL),
]


OWN = "asymvlm.training.callbacks."


CALLBACKS = [
    "--trainer.callbacks",
    f"{OWN}ExportScorer",
    f"--trainer.callbacks+={OWN}RunCheckpoint",
]


ALONE = [
    "--config",
    str(ROOT / "configs/stage2/lora.yaml"),
    "--config",
    str(SMALL),
]


KL = [
    "--model.objectives.divergence",
    "AnswerDivergence",
    "--model.objectives.cross_entropy.weight",
    "0",
]


LORA = ["--model.lora.rank", "2", *KL]


HARD = [
    *LORA,
    "--model.gate",
    "StraightThrough",
    "--model.gate_mode",
    "mask",
]  # where the scorer learns too


# Adapters alone, beside a scorer that stays.
FROZEN = [
    "--model.lora.rank",
    "2",
    "--model.budget.head_share",
    "0",
    "--model.budget.keep_range",
    "[0.2,0.2]",
    "--model.objectives.divergence.weight",
    "1",
    "--model.objectives.cross_entropy.weight",
    "0",
    "--model.optimizer.learning_rate",
    "0.003",
]


@pytest.fixture(scope="module")
def train(teacher, data_root, tmp_path_factory):
    """Runs train.py's command; returns the run's folder."""
    place = tmp_path_factory.mktemp("recovery")

    def run(folder, *flags, code=0, config=CONFIG):
        out = place / folder
        given = [
            "--model.teacher",
            str(teacher),
            "--data.root",
            str(data_root),
            "--trainer.default_root_dir",
            str(out),
        ]
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(ROOT)
            assert main([*config, "--trainer.logger", "false", *CALLBACKS, *given, *flags]) == code
        return out

    return run


@pytest.fixture(scope="module")
def first(train):
    """A scorer to start from."""
    return train("first", *KL) / "scorer"


@pytest.fixture(scope="module")
def frozen(train, first):
    """LoraAdapters alone, beside it."""
    return train("frozen", *FROZEN, "--model.start", str(first), config=ALONE) / "scorer"


def adapter(scorer):
    return load_file(scorer / "adapter/adapter_model.safetensors")
