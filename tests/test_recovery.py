"""LoRA adapters beside a scorer.

Trained under pruning, exported as peft's own, worn only when asked.
"""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from scorer_runs import layers_read, same, weights

import asymvlm
from asymvlm.backbone import backbone_of
from asymvlm.check import problems
from asymvlm.checkpoint.scorer import TrainedScorer, save_scorer
from asymvlm.distillation.teacher import Teacher
from asymvlm.documents.sources.source import DataSource
from asymvlm.evaluation.evaluate import evaluate
from asymvlm.export import export_checkpoint
from asymvlm.methods import Learned
from asymvlm.scorers import scorers
from asymvlm.storage.fingerprint import describe
from asymvlm.training.lora import LoraAdapters
from asymvlm.training.main import main
from asymvlm.training.settings import LoraSettings
from asymvlm.training.start import are_different

# Lightning's, jsonargparse's and peft's own, as a user would see them.
pytestmark = pytest.mark.filterwarnings("default")

ROOT = Path(__file__).parent.parent
CONFIG = [
    "--config",
    str(ROOT / "configs/vision-selector.yaml"),
    "--config",
    str(ROOT / "tests/small.yaml"),
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
    str(ROOT / "tests/small.yaml"),
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


def test_adapters_learn_and_the_scorer_stays(frozen, first):
    assert same(weights(frozen.parent), weights(first.parent)) and problems(frozen) == []
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


@torch.no_grad()
def test_worn_while_pruning_and_gone_afterwards(frozen, first, llava, batch):
    scorer, dense = asymvlm.load_scorer(frozen), llava(**batch).logits
    before = {name: tensor.clone() for name, tensor in llava.state_dict().items()}
    with asymvlm.prune(llava, scorer, keep=0.25):
        plain = llava(**batch).logits
    with asymvlm.prune(llava, scorer, keep=0.25, adapter=True) as report:
        worn = llava(**batch).logits
    assert set(report.calls[-1].after) == {64} and not torch.equal(worn, plain)
    assert llava.state_dict().keys() == before.keys() and all(
        torch.equal(before[name], one) for name, one in llava.state_dict().items()
    )
    assert torch.equal(llava(**batch).logits, dense) and not hasattr(llava, "peft_config")
    with asymvlm.prune(llava, asymvlm.load_scorer(first), keep=0.25):
        assert torch.equal(llava(**batch).logits, plain)


@torch.no_grad()
def test_plain_peft_loads_it(frozen, llava, batch):
    scorer = asymvlm.load_scorer(frozen)
    with asymvlm.prune(llava, scorer, keep=0.25, adapter=True):
        worn = llava(**batch).logits
    adapted = PeftModel.from_pretrained(llava, str(scorer.adapter))
    try:
        with asymvlm.prune(adapted, scorer, keep=0.25):
            assert torch.equal(adapted(**batch).logits, worn)
        with (
            pytest.raises(ValueError, match="has adapters already"),
            asymvlm.prune(adapted, scorer, keep=0.25, adapter=True),
        ):
            pass
    finally:
        adapted.unload()


def test_it_has_a_row_in_the_table(frozen, teacher, data_root, tmp_path):
    about = {
        "data": DataSource(root=str(data_root)),
        "pages": 2,
        "latency_batches": [1],
        "longest_answer": 3,
        "output": str(tmp_path),
    }
    rows = evaluate(str(teacher), str(frozen), keeps=[0.25], **about)
    assert {row.method for row in rows} == {"learned", "recovered"}


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
    train("halves", *flags, "--trainer.callbacks+=test_through_llm.StopAfterOne", config=ALONE)
    capsys.readouterr()
    resumed = adapter(train("halves", *flags, "--ckpt_path", "last", config=ALONE) / "scorer")
    said = capsys.readouterr().out
    assert (
        "halves/last.ckpt at step 8\n" in said and "differs from the checkpoint: model" not in said
    )
    assert resumed.keys() == adapter(frozen).keys() and all(
        torch.equal(resumed[name], one) for name, one in adapter(frozen).items()
    )


def test_the_adapter_is_part_of_what_a_method_is(frozen, tmp_path):
    copied = shutil.copytree(frozen, tmp_path / "copy")
    methods = [
        Learned(str(frozen)),
        Learned(str(frozen), adapter=True),
        Learned(str(copied), adapter=True),
    ]
    assert describe(methods[0]) != describe(methods[1]) == describe(methods[2])
    (copied / "adapter/adapter_config.json").write_text("{}")
    assert describe(Learned(str(copied), adapter=True)) != describe(methods[1])


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


def test_a_scorer_saved_again_keeps_its_adapter(frozen, tmp_path):
    save_scorer(asymvlm.load_scorer(frozen), tmp_path / "again", "card")
    assert problems(tmp_path / "again") == []
    assert describe(Learned(str(tmp_path / "again"), adapter=True)) == describe(
        Learned(str(frozen), adapter=True)
    )


def test_an_adapter_that_does_not_fit_leaves_the_model_alone(frozen, llava, tmp_path):
    """Of a model with other layers, and with layers of another size.

    Peft has put its layers in before it finds out.
    """
    before = {
        name: (tensor.clone(), tensor.requires_grad) for name, tensor in llava.named_parameters()
    }
    for spoil in (
        lambda name, tensor: {name: tensor[..., :-1].contiguous()},
        lambda name, tensor: {} if "layers.0" in name else {name: tensor},
    ):
        other = shutil.copytree(frozen, tmp_path / "other", dirs_exist_ok=True)
        tensors = {
            key: one
            for name, tensor in adapter(frozen).items()
            for key, one in spoil(name, tensor).items()
        }
        save_file(tensors, other / "adapter/adapter_model.safetensors")
        with (
            pytest.raises(ValueError, match="does not fit"),
            asymvlm.prune(llava, asymvlm.load_scorer(other), adapter=True),
        ):
            pass
        now = dict(llava.named_parameters())
        assert now.keys() == before.keys()
        assert all(
            torch.equal(now[name], one) and now[name].requires_grad == grad
            for name, (one, grad) in before.items()
        )


def test_wearing_changes_neither_mode_nor_dice(frozen, llava, batch):
    llava.train()
    llava.gradient_checkpointing_enable()
    scorer = asymvlm.load_scorer(frozen)
    state, hooks = torch.get_rng_state(), len(llava.get_input_embeddings()._forward_hooks)
    try:
        with asymvlm.prune(llava, scorer, keep=0.25, adapter=True):
            assert torch.equal(torch.get_rng_state(), state)
            llava.generate(**batch, max_new_tokens=1, do_sample=False)
        assert all(module.training for module in llava.modules())
        assert len(llava.get_input_embeddings()._forward_hooks) == hooks
    finally:
        llava.gradient_checkpointing_disable()
        llava.eval()


def test_equal_checkpoints_give_equal_adapters(frozen, tmp_path):
    again = export_checkpoint(frozen.parent / "best.ckpt", tmp_path / "again")
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (again / "adapter" / name).read_bytes() == (frozen / "adapter" / name).read_bytes()
    modules = json.loads((again / "adapter/adapter_config.json").read_text())["target_modules"]
    assert modules == sorted(modules) and len(modules) == 8


def test_an_adapter_is_not_dropped_silently(train, frozen, llava, capsys):
    train("dropped", *KL, "--model.scorer", "null", "--model.start", str(frozen), code=2)
    assert "has an adapter, which would be lost" in capsys.readouterr().err
    with (
        pytest.raises(ValueError, match="Learned"),
        asymvlm.prune(llava, Learned(str(frozen)), adapter=True),
    ):
        pass


def test_a_scorer_without_an_adapter_says_so(first, llava):
    with (
        pytest.raises(ValueError, match="train one with"),
        asymvlm.prune(llava, asymvlm.load_scorer(first), adapter=True),
    ):
        pass


@pytest.mark.parametrize(
    "spoil,says",
    [
        (
            lambda folder: (folder / "adapter/adapter_config.json").unlink(),
            "adapter/adapter_config.json is missing",
        ),
        (
            lambda folder: (folder / "adapter/adapter_model.safetensors").write_bytes(b"x"),
            "truncated or corrupt",
        ),
    ],
)
def test_a_broken_adapter_is_found(frozen, tmp_path, spoil, says):
    broken = shutil.copytree(frozen, tmp_path / "broken")
    spoil(broken)
    assert says in problems(broken)[0]
