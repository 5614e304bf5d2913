"""Training through the frozen LLM, on a small random teacher.

It trains, resumes, exports, and leaves the teacher alone.
"""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from support import ROOT, child_environment
from support import SMALL as SMALL_CONFIG
from support.scorer_runs import layers_read, same, weights

import asymvlm
from asymvlm.distillation.teacher import Teacher
from asymvlm.objectives import Distraction
from asymvlm.targets import OutsideBoxes
from asymvlm.training.main import main

# Lightning's and jsonargparse's own, as a user would see them.
pytestmark = pytest.mark.filterwarnings("default")


CONFIG = [
    "--config",
    str(ROOT / "configs/vision-selector.yaml"),
    "--config",
    str(SMALL_CONFIG),
]
CROSS = [
    "--model.scorer",
    "asymvlm.scorers.cross_attention.CrossAttentionScorer",
    "--model.scorer.hidden",
    "16",
]
BUDGET = [
    "--model.budget.head_share",
    "0.25",
    "--model.objectives.sparsity",
    "Sparsity",
    "--model.budget.keep_range",
    "[0.1,0.5]",
    "--model.gate_mode",
    "mask",
]
OWN = "asymvlm.training.callbacks."
CALLBACKS = [
    "--trainer.callbacks",
    f"{OWN}ExportScorer",
    f"--trainer.callbacks+={OWN}RunCheckpoint",
]


@pytest.fixture
def train(teacher, data_root, tmp_path, monkeypatch):
    """Runs train.py's command; returns the run's folder."""

    def run(folder, *flags, code=0):
        out = tmp_path / folder
        monkeypatch.chdir(ROOT)
        given = [
            "--model.teacher",
            str(teacher),
            "--data.root",
            str(data_root),
            "--trainer.default_root_dir",
            str(out),
        ]
        assert main([*CONFIG, "--trainer.logger", "false", *CALLBACKS, *given, *flags]) == code
        return out

    return run


def test_trains_a_scorer_without_a_budget_head(train, llava, batch):
    out = train("run")
    scorer = asymvlm.load_scorer(out / "scorer")
    assert scorer.scorer.kind == "vision_selector" and scorer.budget is None
    with torch.no_grad(), asymvlm.prune(llava, scorer, keep=0.25) as report:
        llava(**batch, logits_to_keep=1)
    assert report.calls[-1].after == [64] * len(report.calls[-1].after)


def test_the_teacher_stays_as_it_was_and_the_scorer_does_not(train, monkeypatch, llava):
    loaded = []
    original = Teacher.load.__func__
    monkeypatch.setattr(
        Teacher,
        "load",
        classmethod(lambda *args, **kwargs: loaded.append(original(*args, **kwargs)) or loaded[-1]),
    )
    out = train("run", *CROSS, *BUDGET, "--model.checkpointing", "true")
    trained = loaded[-1].model.state_dict()
    assert trained.keys() == llava.state_dict().keys()
    assert all(torch.equal(trained[name], tensor) for name, tensor in llava.state_dict().items())
    assert all(parameter.grad is None for parameter in loaded[-1].model.parameters())
    fresh = train("none", *CROSS, *BUDGET, "--model.optimizer.learning_rate", "1e-12")
    changed = [
        name
        for name, tensor in weights(out).items()
        if not torch.allclose(tensor, weights(fresh)[name], atol=1e-5)
    ]
    assert {name.split(".")[0] for name in changed} == {"scorer", "budget"}


def test_checkpointing_changes_nothing_but_memory(train, monkeypatch):
    read = layers_read(monkeypatch)
    kept, once = train("kept", *CROSS, *BUDGET), len(read)
    read.clear()
    computed = train("computed", *CROSS, *BUDGET, "--model.checkpointing", "true")
    assert len(read) > once, "layers are computed again"
    for name, tensor in weights(kept).items():
        torch.testing.assert_close(weights(computed)[name], tensor, atol=1e-6, rtol=1e-5)


def test_half_precision_stays_near(train):
    full = train("full", *CROSS, *BUDGET)
    half = train("half", *CROSS, *BUDGET, "--trainer.precision", "bf16-mixed")
    for name, tensor in weights(full).items():
        assert weights(half)[name].dtype == tensor.dtype
        torch.testing.assert_close(weights(half)[name], tensor, atol=0.05, rtol=0.1)


@pytest.mark.slow
def test_two_processes_learn_the_same(train, teacher, data_root, tmp_path):
    """Every sample's share is the same here; where it is drawn, every process draws its own."""
    one, out = weights(train("one")), tmp_path / "two"
    given = [
        "--model.teacher",
        str(teacher),
        "--data.root",
        str(data_root),
        "--trainer.default_root_dir",
        str(out),
    ]
    two = [
        "--trainer.accelerator",
        "cpu",
        "--trainer.devices",
        "2",
        "--trainer.strategy",
        "ddp",
        "--data.batch_size",
        "4",
    ]
    command = [
        sys.executable,
        "train.py",
        *CONFIG,
        "--trainer.logger",
        "false",
        *CALLBACKS,
        *given,
        *two,
    ]
    done = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=child_environment(OMP_NUM_THREADS="1"),
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for name, tensor in weights(out).items():
        torch.testing.assert_close(tensor, one[name], atol=1e-4, rtol=1e-3)


def test_resumed_equals_uninterrupted(train, capsys):
    train("halves", *CROSS, *BUDGET, "--trainer.callbacks+=support.scorer_runs.StopAfterOne")
    capsys.readouterr()
    resumed = train("halves", *CROSS, *BUDGET, "--ckpt_path", "last")
    said = capsys.readouterr().out
    assert (
        "halves/last.ckpt at step 8\n" in said and "differs from the checkpoint: model" not in said
    )
    assert same(weights(resumed), weights(train("whole", *CROSS, *BUDGET)))


def test_goes_on_from_an_exported_scorer(train):
    first = train("first", *CROSS, *BUDGET)
    flags = ["--model.scorer", "null", "--model.start", str(first / "scorer"), *BUDGET]
    second = train("second", *flags, "--model.optimizer.learning_rate", "1e-12")
    for name, tensor in weights(first).items():
        torch.testing.assert_close(weights(second)[name], tensor, atol=1e-5, rtol=0)


def test_distractors_reach_their_term_and_cost_nothing_without_it(train, monkeypatch):
    seen, original = [], Distraction.forward
    monkeypatch.setattr(
        Distraction,
        "forward",
        lambda term, prediction, labels: seen.append(labels) or original(term, prediction, labels),
    )
    avoid = [
        "--model.distractors",
        "asymvlm.targets.OutsideBoxes",
        "--model.distractors.inner",
        "asymvlm.targets.AttentionTarget",
    ]
    target = [
        "--model.target",
        "asymvlm.targets.EvidenceTarget",
        "--model.objectives.distillation",
        "Distillation",
        "--model.objectives.distillation.weight",
        "0.1",
    ]
    wary = train(
        "wary",
        *CROSS,
        *BUDGET,
        *target,
        *avoid,
        "--model.objectives.distraction",
        "Distraction",
        "--model.objectives.distraction.weight",
        "1",
    )
    for labels in seen:
        torch.testing.assert_close(labels.distractors.sum(-1), torch.ones(len(labels.distractors)))
        draw_boxes = labels.importance > labels.importance.amin(-1, keepdim=True)
        assert draw_boxes.any() and labels.distractors[draw_boxes].sum() == 0
    assert seen
    monkeypatch.setattr(OutsideBoxes, "__call__", lambda *args: pytest.fail("asked for nothing"))
    assert not same(weights(wary), weights(train("plain", *CROSS, *BUDGET, *target, *avoid)))


@pytest.mark.parametrize(
    "flags,says",
    [
        (["--model.scorer", "null"], "model.start, model.scorer: give one of them"),
        (["--model.gate_mode", "value"], "model.gate_mode: 'value' is not one of"),
        (["--model.budget.keep_range", "[0.5,0.2]"], "model.budget.keep_range: [0.5, 0.2] must be"),
        (["--model.budget.head_share", "2"], "model.budget.head_share: 2"),
        (
            ["--model.objectives.mine", "Distillation"],
            "model.objectives.mine: Distillation has a weight of 1 and needs a target",
        ),
        (
            ["--model.objectives.sparsity", "Sparsity"],
            "model.objectives.sparsity: Sparsity has a weight of 0.1 and needs a budget head",
        ),
        (
            ["--model.objectives.mine", "Distraction", "--model.objectives.mine.weight", "1"],
            "needs distractors, a target",
        ),
        (["--data.cache", "true"], "data.cache: true keeps targets alone"),
        (["--model.objectives.hardening.first_weight", "3"], "first_weight: 3"),
    ],
)
def test_bad_settings_are_one_message(train, capsys, flags, says):
    train("bad", *flags, code=2)
    assert says in capsys.readouterr().err
