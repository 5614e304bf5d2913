"""LoRA adapters beside a scorer, trained under pruning."""

from __future__ import annotations

import copy
import json
import shutil

import pytest
import torch
from support.lora_runs import ALONE, FROZEN, HARD, KL, LORA, adapter
from support.scorer_runs import layers_read, same, weights

import asymvlm
from asymvlm.backbone import backbone_of
from asymvlm.check import check_directory
from asymvlm.checkpoint.scorer import TrainedScorer, save_scorer
from asymvlm.distillation.teacher import Teacher
from asymvlm.methods import Learned
from asymvlm.scorers import scorers
from asymvlm.training.lora import LoraAdapters
from asymvlm.training.settings import LoraSettings
from asymvlm.training.start import are_different


def test_adapters_learn_and_the_scorer_stays(frozen, first):
    assert same(weights(frozen.parent), weights(first.parent))
    check_directory(frozen)
    learned = {
        name: float(tensor.abs().max())
        for name, tensor in adapter(frozen).items()
        if "lora_B" in name
    }
    assert learned and all(size > 0 for size in learned.values()), (
        "B starts at zero, so what is not zero has learned"
    )
    assert all("language_model" in name for name in learned)
    assert "adapter=True" in (frozen / "README.md").read_text()


pytestmark = pytest.mark.filterwarnings("default")


def test_adapters_and_scorer_learn_together(train, first):
    flags = ["--model.lora.targets", "[v_proj,multi_modal_projector.linear_2]"]
    out = train("together", *HARD, *flags, "--model.scorer", "null", "--model.start", str(first))
    assert not same(weights(out), weights(first.parent))
    learned = {
        name: float(tensor.abs().max())
        for name, tensor in adapter(out / "scorer").items()
        if "lora_B" in name
    }
    assert any("multi_modal_projector" in name for name in learned) and all(
        size > 0 for size in learned.values()
    )


def test_checkpointing_changes_nothing_but_memory(train, first, frozen, monkeypatch):
    read = layers_read(monkeypatch)
    flags = [*FROZEN, "--model.start", str(first)]
    train("kept", *flags, config=ALONE)
    once = len(read)
    read.clear()
    computed = train("computed", *flags, "--model.checkpointing", "true", config=ALONE)
    for name, tensor in adapter(computed / "scorer").items():
        torch.testing.assert_close(adapter(frozen)[name], tensor, atol=1e-6, rtol=1e-4)
    assert len(read) > once, "layers are computed again"


def test_adapters_alone_can_learn(llava):
    model = copy.deepcopy(llava)
    adapters = LoraAdapters(backbone_of(model), LoraSettings(rank=2))
    own = {id(parameter) for parameter in adapters.parameters()}
    assert own == {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
    assert (
        len(adapters._names) == len(adapters.weights) == 2 * len(adapters.modules_adapted)
        and not adapters.before_llm
    )


def test_what_is_frozen_stays(train, first, frozen, llava, monkeypatch):
    loaded = []
    original = Teacher.load.__func__
    monkeypatch.setattr(
        Teacher,
        "load",
        classmethod(lambda *args, **kwargs: loaded.append(original(*args, **kwargs)) or loaded[-1]),
    )
    train("watched", *FROZEN, "--model.start", str(first), config=ALONE)
    trained = {
        name.replace(".base_layer", ""): one
        for name, one in loaded[-1].model.state_dict().items()
        if ".lora_" not in name
    }
    assert trained.keys() == llava.state_dict().keys()
    assert all(torch.equal(trained[name], one) for name, one in llava.state_dict().items())


def test_resumed_equals_uninterrupted(train, first, frozen, capsys):
    flags = [*FROZEN, "--model.start", str(first)]
    train("halves", *flags, "--trainer.callbacks+=support.scorer_runs.StopAfterOne", config=ALONE)
    capsys.readouterr()
    resumed = adapter(train("halves", *flags, "--ckpt_path", "last", config=ALONE) / "scorer")
    said = capsys.readouterr().out
    assert (
        "halves/last.ckpt at step 8\n" in said and "differs from the checkpoint: model" not in said
    )
    assert resumed.keys() == adapter(frozen).keys() and all(
        torch.equal(resumed[name], one) for name, one in adapter(frozen).items()
    )


@pytest.mark.parametrize(
    "flags,code,says",
    [
        (["--model.recovery", "lora"], 2, "recovery"),
        (
            [*HARD, "--model.lora.targets", "[q_proj,value]"],
            2,
            "model.lora.targets: 'value' is no linear module of Llava",
        ),
        ([*HARD, "--model.lora.targets", "[]"], 2, "model.lora.targets: none are named"),
        ([*HARD, "--model.lora.rank", "0"], 2, "model.lora.rank: 0 must be at least 1"),
        (LORA, 2, "model.gate: SoftTopK with model.gate_mode scale leaves a little of every token"),
        (
            [*HARD, "--model.gate_mode", "scale"],
            2,
            "model.gate: StraightThrough with model.gate_mode scale leaves",
        ),
        (
            [*HARD, "--model.optimizer.learning_rate", "1e30"],
            1,
            "lower model.optimizer.learning_rate",
        ),
    ],
)
def test_bad_settings_are_one_message(train, capsys, flags, code, says):
    train("bad", *flags, code=code)
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    "where,says", [("loss", "loss is nan"), ("gradient", "the gradient of scorer.")]
)
def test_a_lost_loss_names_the_batch_and_keeps_the_last_good_checkpoint(
    train, capsys, monkeypatch, where, says
):
    from asymvlm.objectives import AnswerDivergence

    calls, right = [], AnswerDivergence.forward

    def breaks(self, prediction, labels):
        calls.append(prediction.answers.requires_grad)
        if sum(calls) > 9 and where == "gradient":
            prediction.answers.register_hook(lambda gradient: gradient * float("nan"))
        return right(self, prediction, labels) * (
            float("nan") if sum(calls) > 9 and where == "loss" else 1.0
        )

    monkeypatch.setattr(AnswerDivergence, "forward", breaks)
    out = train(f"lost-{where}", *KL, code=1)
    said = capsys.readouterr().err
    assert (
        says in said
        and "in epoch 1" in said
        and "samples train-" in said
        and "Traceback" not in said
    )
    kept = torch.load(out / "last.ckpt", weights_only=True)
    assert kept["global_step"] > 0 and all(
        tensor.isfinite().all() for tensor in kept["state_dict"].values()
    )


def test_a_scorer_of_another_teacher_is_refused(train, first, tmp_path, capsys):
    other = shutil.copytree(first, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    assert config["teacher"]["weights"]
    config["teacher"]["weights"] = "model.safetensors:0"
    (other / "config.json").write_text(json.dumps(config))
    train("other", *KL, "--model.scorer", "null", "--model.start", str(other), code=2)
    assert "was trained on other weights" in capsys.readouterr().err


@pytest.mark.parametrize(
    "one,other,differ",
    [
        ({"name": "a/b", "weights": ""}, {"name": "a/b", "weights": ""}, False),
        ({"name": "a/b", "weights": ""}, {"name": "a/c", "weights": ""}, True),
        # It may be a copy.
        ({"name": "a/b", "weights": ""}, {"name": "folder", "weights": "x:1"}, False),
        ({"name": "one", "weights": "x:1"}, {"name": "two", "weights": "x:1"}, False),
        ({"name": "one", "weights": "x:1"}, {"name": "one", "weights": "x:2"}, True),
        ({}, {"name": "a/b", "weights": ""}, False),
    ],
)
def test_teachers_are_told_apart(one, other, differ):
    assert are_different(one, other) is differ


def test_a_scorer_of_another_width_is_refused(train, tmp_path, capsys):
    save_scorer(TrainedScorer(scorers()["low_rank"](24), None), tmp_path / "narrow", "card")
    train(
        "narrow", *KL, "--model.scorer", "null", "--model.start", str(tmp_path / "narrow"), code=2
    )
    assert "is for a width of 24" in capsys.readouterr().err


def test_an_adapter_is_not_dropped_silently(train, frozen, llava, capsys):
    train("dropped", *KL, "--model.scorer", "null", "--model.start", str(frozen), code=2)
    assert "has an adapter, which would be lost" in capsys.readouterr().err
    with (
        pytest.raises(ValueError, match="Learned"),
        asymvlm.prune(llava, Learned(str(frozen)), adapter=True),
    ):
        pass
