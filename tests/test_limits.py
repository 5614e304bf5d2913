"""Settings that make no sense are refused where they are made: key, value and what it may be."""

from __future__ import annotations

import math

import pytest

from asymvlm import limits
from asymvlm.documents.sources.source import DataSource
from asymvlm.evaluation.evaluate import Evaluation
from asymvlm.evaluation.evaluate_eviction import EvictionEvaluation
from asymvlm.evaluation.robustness.robustness import RobustnessEvaluation
from asymvlm.evaluation.similarity_sign import similarity_sign
from asymvlm.eviction.policies.snap_kv import SnapKV
from asymvlm.gates import SoftTopK
from asymvlm.objectives import (
    BudgetRegression,
    Distillation,
    Distraction,
    Hardening,
    Ranking,
    check_objectives,
)
from asymvlm.scorers import BudgetHead, scorers
from asymvlm.targets import AttentionTarget, BudgetTarget, EvidenceTarget, MixedTarget
from asymvlm.tiny_teacher.data import TeacherPages
from asymvlm.tiny_teacher.export import ExportTeacher
from asymvlm.tiny_teacher.recipe import Stage, TeacherRecipe
from asymvlm.training.answer_module import LLMSettings
from asymvlm.training.callbacks import WatchPages
from asymvlm.training.data import PagesData
from asymvlm.training.fit_eviction import fit_eviction
from asymvlm.training.main import main as train
from asymvlm.training.settings import BudgetSettings, LoraSettings, OptimizerSettings

NAN = math.nan


def llm(**settings):
    return LLMSettings(BudgetSettings(), checkpointing=False, lora=None, **settings)


def scorer(kind):
    return lambda **settings: scorers()[kind](8, **settings)


def source(**settings):
    DataSource(**settings).check()


def eviction(**settings):
    return EvictionEvaluation(**{"policies": {"snap": SnapKV()}} | settings)


def mixed(**settings):
    return MixedTarget(EvidenceTarget(), EvidenceTarget(), **settings)


def recipe(**settings):
    return TeacherRecipe(Stage(1, 1.0), Stage(1, 1.0), Stage(1, 1.0), **settings)


WRONG = {
    OptimizerSettings: [
        *(("learning_rate", value) for value in (0, -1e-3, NAN, math.inf)),
        ("weight_decay", -0.1), ("weight_decay", NAN),
        ("warm_up", -0.1), ("warm_up", 1.1), ("warm_up", NAN),
    ],
    BudgetSettings: [
        ("keep_range", (0, 0.5)), ("keep_range", (0.5, 0.25)), ("keep_range", (0.5, 2)),
        ("keep_range", (NAN, 0.5)), ("head_share", 1.5), ("head_share", NAN), ("hidden", 0),
    ],
    LoraSettings: [("rank", 0), ("alpha", 0), ("targets", ())],
    llm: [("val_keeps", ()), ("val_keeps", (0.5, 0)), ("val_keeps", (2.0,))],
    PagesData: [
        ("train_pages", 0), ("val_pages", -1), ("batch_size", 0), ("teacher_batch_size", 0),
        ("num_workers", -1), ("seed", -1), ("val_share", 1), ("questions", (0, 0)),
    ],
    source: [
        ("questions", (-1, 2)), ("questions", (0, 0)), ("seed", -1), ("root", ""), ("path", ""),
        ("val_share", 0), ("val_share", NAN),
    ],
    WatchPages: [("count", 0), ("keep", 0), ("keep", 1.5), ("every_n_epochs", 0)],
    Distillation: [("weight", -1), ("weight", NAN), ("weight", math.inf)],
    Ranking: [("best", 0), ("margin", -1), ("margin", NAN)],
    Distraction: [("margin", -1), ("margin", NAN)],
    BudgetRegression: [("quantile", 0), ("quantile", 1), ("quantile", NAN)],
    Hardening: [("first_weight", 1), ("first_weight", -1)],
    SoftTopK: [("temperature", 0), ("temperature", NAN), ("last_temperature", -1)],
    AttentionTarget: [
        ("rows", "first"), ("heads", "least"), ("layers", []), ("sharpen", 0), ("sharpen", NAN),
    ],
    BudgetTarget: [("tau", 0), ("tau", 1.5), ("tau", NAN), ("ranking", "x"), ("ladder", [])],
    EvidenceTarget: [("key_weight", -1), ("key_weight", NAN)],
    mixed: [("share", -0.1), ("share", 1.1), ("share", NAN)],
    scorer("low_rank"): [("rank", 0)],
    scorer("cross_attention"): [("hidden", 0), ("heads", 0)],
    scorer("text_free"): [("hidden", -1)],
    scorer("vision_selector"): [("hidden", 0)],
    scorer("diagonal"): [("scale", 0), ("scale", NAN)],
    BudgetHead: [("width", 0)],
    SnapKV: [("window", 0), ("sinks", -1)],
    Evaluation: [
        ("pages", 0), ("longest_answer", 0), ("batch_size", 0), ("keeps", []), ("keeps", [0]),
        ("keeps", [0.5, 1.5]), ("keeps", ["all"]), ("latency_batches", []),
        ("latency_batches", [0]), ("examples_keep", 0), ("metric", "x"), ("split", "x"),
    ],
    eviction: [
        ("pages", 0), ("longest_answer", 0), ("policies", {}), ("shares", []), ("shares", [0.0]),
        ("keep", 0), ("keep", 2.0), ("metric", "x"), ("split", "x"),
    ],
    RobustnessEvaluation: [
        ("pages", -1), ("longest_answer", 0), ("batch_size", 0), ("keep", 0), ("corruptions", []),
        ("corruptions", ["rain"]), ("severities", []), ("severities", [6]), ("metric", "x"),
        ("split", "x"),
    ],
    fit_eviction: [("pages", 0), ("batch_size", 0), ("ridge", -1), ("ridge", NAN)],
    TeacherPages: [
        ("pages", 0), ("crowded", 0), ("tower_batch", 0), ("reading_batch", 0), ("joint_batch", 0),
        ("sparse_from", 2), ("tables", 0), ("talk_share", (0.5, 2)), ("seed", -1),
    ],
    recipe: [("contrastive", -1), ("dense", NAN)],
    ExportTeacher: [("check_pages", 0)],
}  # fmt: skip


@pytest.mark.parametrize(
    "make,key,value", [(make, *item) for make, items in WRONG.items() for item in items]
)
def test_what_makes_no_sense_is_refused(make, key, value):
    needed = {"width": 8} if make is BudgetHead else {}
    with pytest.raises(ValueError) as refused:
        made = make(**needed | {key: value})
        # Sources of data are checked where a command is built, and on first use.
        getattr(made, "check", lambda: None)()
    text = str(refused.value)
    assert key in text.partition(": ")[0] and "\n" not in text
    shown = value[-1] if isinstance(value, (list, tuple)) and value else value
    assert str(shown) in text or not value


def test_other_makers():
    for key, value in (("steps", 0), ("learning_rate", 0)):
        with pytest.raises(ValueError, match=f"{key}: 0 must be "):
            Stage(**{"steps": 1, "learning_rate": 1.0} | {key: value})
    for key, value in (("pages", 0), ("split", "x")):
        with pytest.raises(ValueError, match=f"{key}: "):
            similarity_sign("nowhere", **{key: value})


@pytest.mark.parametrize("objectives", [{}, {"a": Distillation(0), "b": Ranking(0.0)}])
def test_a_training_without_a_weight_is_refused(objectives):
    with pytest.raises(ValueError, match="no term has a weight"):
        check_objectives(objectives, {"target"})


def test_the_ends_of_what_is_allowed():
    OptimizerSettings(1e-9, 0, 0)
    OptimizerSettings(warm_up=1)
    BudgetSettings((1, 1), 1, 1)
    PagesData(1, 1, 1, teacher_batch_size=1, num_workers=0, questions=(0, 1))
    llm(val_keeps=(1.0,))
    Evaluation(keeps=[1, 1.0, "auto"], latency_batches=[1], pages=1)
    RobustnessEvaluation(severities=[1, 5])
    SoftTopK(1e-3, 1e-3)


@pytest.mark.parametrize(
    "flags,says",
    [
        ("max_epochs 0", "trainer.max_epochs: 0 trains nothing; give at least 1"),
        ("max_steps 0", "trainer.max_steps: 0 trains nothing; give at least 1"),
        ("max_epochs -5", "trainer: `max_epochs` must be a non-negative integer or -1"),
        ("devices 0", "trainer: `Trainer(devices="),
        ("accumulate_grad_batches 0", "trainer.accumulate_grad_batches: 0 must be at least 1"),
        ("gradient_clip_val -1", "trainer.gradient_clip_val: -1"),
        ("log_every_n_steps -1", "trainer.log_every_n_steps: -1 must be at least 0"),
    ],
)
@pytest.mark.filterwarnings("default")  # Lightning's and jsonargparse's own
def test_a_trainer_that_would_train_nothing_is_refused(flags, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert train(["--trainer.accelerator", "cpu", *f"--trainer.{flags}".split()]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert line.startswith(f"error: {says}")


def test_words():
    with pytest.raises(ValueError, match=r"^a: 0 must be at least 1$"):
        limits.check_at_least(1, {"b": 2, "a": 0})
    with pytest.raises(ValueError, match=r"^a: 0 must be above 0$"):
        limits.check_above(0, {"a": 0})
    with pytest.raises(ValueError, match=r"^a: 2 must lie in \[0, 1\]$"):
        limits.check_within(0, 1, {"a": 2})
    with pytest.raises(ValueError, match=r"^a: 0 must be a share in \(0, 1\]$"):
        limits.check_share({"a": 0})
    with pytest.raises(ValueError, match=r"^a: 'c' is not one of x, y$"):
        limits.check_one_of(("x", "y"), {"a": "c"})
    with pytest.raises(ValueError, match=r"^a: \[\] names nothing; name at least one"):
        limits.check_named({"b": None, "a": []})


@pytest.mark.parametrize(
    "flags,says",
    [
        ("--seed_everything -1", "seed_everything: -1 must be at least 0"),
        ("--model.budget_hidden 0", "model.budget_hidden: 0 must be at least 1"),
    ],
)
@pytest.mark.filterwarnings("default")  # Lightning's and jsonargparse's own
def test_keys_of_a_training_are_named_whole(flags, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert train(flags.split()) == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"error: {says}"
