"""A setting that cannot be is one line: its key as written, what is nearest, what there is."""

from __future__ import annotations

import functools

import pytest
import yaml
from support import ROOT

from asymvlm.cli.command import USAGE, call_from_flags, run_command
from asymvlm.cli.hints import parameters
from asymvlm.cli.mistakes import Root, check_filled, explain
from asymvlm.evaluation.evaluate import Evaluation
from asymvlm.evaluation.main import main as evaluate
from asymvlm.evaluation.robustness.robustness import main as robustness
from asymvlm.evaluation.similarity_sign import main as similarity_sign
from asymvlm.methods import methods
from asymvlm.training import main as training
from asymvlm.training.fit_eviction import main as fit_eviction

train = training.main
INSIDES = ("Parser key", "NestedArg", "subtypes", "Namespace", "not accepted", "unrecognized")
OBJECTIVES = "there are AnswerCrossEntropy, AnswerDivergence, BudgetRegression, Distillation, "
# Tests of other files have scorers of their own, which come behind these.
# Other test files may have scorers of their own.
SCORERS = "there are "


def refused(command, capsys, *flags):
    """What a command says of these flags, in its one line."""
    assert command(list(flags)) == USAGE
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.endswith("\n") and err.count("\n") == 1
    assert not [word for word in INSIDES if word in err], err
    return err[len("error: ") : -1]


@pytest.mark.parametrize(
    "flags,says",
    [
        ("--model.teachr x", "unknown; did you mean teacher? ImportanceModule takes teacher, tar"),
        ("--model.init_args.teachr x", "unknown; did you mean teacher? ImportanceModule takes "),
        ("--model.optimizer.lr 1", "unknown; model.optimizer takes learning_rate, weight_decay, "),
        ("--model.scorer.hiden 3", "unknown; did you mean hidden? CrossAttentionScorer takes hi"),
        ("--model.target.first.rws x", "unknown; did you mean rows? AttentionTarget takes rows,"),
        ("--model.objectives.ranking.bst 3", "unknown; did you mean best? Ranking takes weight,"),
        ("--data.pth x", "unknown; did you mean path? PagesData takes train_pages, val_pages, "),
        ("--trainer.max_epoch 1", "unknown; did you mean max_epochs? Lightning's Trainer takes "),
        ("--bogus 1", "unknown; `asymvlm train` takes seed_everything, trainer, model, data, ck"),
        ("--model Gate", "there is no LightningModule 'Gate'; did you mean GateModule? there ar"),
        ("--model.scorer Nope", f"there is no Scorer 'Nope'; {SCORERS}"),
        ("--model.scorer.class_path Nope", f"there is no Scorer 'Nope'; {SCORERS}"),
        ("--model.scorer builtins.x", "there is no Scorer 'builtins.x' (AttributeError: module "),
        ("--model.scorer no_such.X", "there is no Scorer 'no_such.X' (ModuleNotFoundError: No mo"),
        ("--model.scorer pathlib.Path", "there is no Scorer 'pathlib.Path' (it is no Scorer); th"),
        ("--model.objectives.entropy Nope", f"there is no Objective 'Nope'; {OBJECTIVES}"),
        ("--trainer.callbacks+=ExportScor", "there is no Callback 'ExportScor'; did you mean Ex"),
        ("--trainer.max_epochs abc", "'abc' is not a whole number or null"),
        ("--trainer.fast_dev_run x", "'x' is not a whole number or true or false"),
        ("--model.optimizer.learning_rate x", "'x' is not a number"),
        ("--data.batch_size 1.5", "'1.5' is not a whole number"),
        ("--data.questions [1]", "[1] is not a list [a whole number, a whole number]"),
        ("--data.cache perhaps", "'perhaps' is not true or false"),
        ("--model.teacher", "its value is missing"),
        ("extra", "this is neither a flag nor the value of one"),
    ],
)
def test_flags_of_a_training(flags, says, capsys):
    key = flags.split()[0].split("=")[0].rstrip("+")
    assert refused(train, capsys, *flags.split()).startswith(f"{key}: {says}")


@pytest.mark.parametrize(
    "flags,text",
    [
        ("--methods.x FastV2", "--methods.x: there is no Method 'FastV2'; did you mean FastV? the"),
        ("--methods.x fastv", "--methods.x: there is no Method 'fastv'; did you mean FastV? there"),
        ("--methods.x FastV --methods.x.layr 2", "--methods.x.layr: unknown; did you mean layer?"),
        ("--keep [0.5]", "--keep: unknown; did you mean keeps? `asymvlm eval` takes teacher, scor"),
        ("--keeps abc", "--keeps: 'abc' is not a list [a number or text, ...] or null"),
        ("--pages x", "--pages: 'x' is not a whole number"),
        ("--data.pth x", "--data.pth: unknown; did you mean path? data takes path, images, "),
        ("--data x", "--data: 'x' is not settings (path, images, columns, "),
        ("--pages.more 2", "--pages.more: --pages has no settings of its own"),
        ("--equal abc", "--equal: 'abc' is not one of left, layer_average, flops"),
        ("evict", "evict: this is neither a flag nor the value of one; `eviction` comes before al"),
        ("--config eval/quick eviction", "eviction: this is neither a flag nor the value of one; "),
        (
            "eviction --policies.x Tov",
            "--policies.x: there is no Evictor 'Tov'; did you mean TOVA?",
        ),
        ("eviction --keeps [1]", "--keeps: unknown; did you mean keep? `asymvlm eval eviction` ta"),
    ],
)
def test_flags_of_an_evaluation(flags, text, capsys):
    assert refused(evaluate, capsys, *flags.split()).startswith(text)


@pytest.mark.parametrize(
    "command,flags,text",
    [
        (robustness, "--severity [1]", "--severity: unknown; did you mean severities? `asymvlm ro"),
        (fit_eviction, "--page 1", "--page: unknown; did you mean pages? `asymvlm fit-eviction` t"),
        (similarity_sign, "--clipp x", "--clipp: unknown; did you mean clip? `asymvlm similarity-"),
        (similarity_sign, "--pages 1", "clip: `asymvlm similarity-sign` needs it; give --clip VAL"),
    ],
)
def test_flags_of_other_commands(command, flags, text, capsys):
    assert refused(command, capsys, *flags.split()).startswith(text)


@pytest.mark.parametrize(
    "command,content,text",
    [
        (evaluate, "methods: {x: FastV2}", "methods.x: there is no Method 'FastV2'; did you mean "),
        (evaluate, "methods: {x: {class_path: FastV, init_args: {layr: 2}}}",
         "methods.x.init_args.layr: unknown; did you mean layer? FastV takes layer"),
        (evaluate, "methods: {x: {class_path: FastV, init_args: {layer: two}}}",
         "methods.x.init_args.layer: 'two' is not a whole number"),
        (evaluate, "keep: [0.5]", "keep: unknown; did you mean keeps? "),
        (evaluate, "keeps: abc", "keeps: 'abc' is not a list [a number or text, ...] or null"),
        (evaluate, "data: {pth: x}", "data.pth: unknown; did you mean path? data takes path, "),
        (train, "data: {init_args: {pth: x}}", "data.init_args.pth: unknown; did you mean path? "),
        (train, "model: {init_args: {teacher: x}}",
         "model.init_args: no class is chosen for these settings; set model.class_path to one of"),
        (train, "model: {class_path: GateModul}", "model.class_path: there is no LightningModule "),
        (train, "trainer: {callbacks: [{class_path: PeakMemory}, {class_path: ExportScorr}]}",
         "trainer.callbacks[1].class_path: there is no Callback 'ExportScorr'; did you mean Expor"),
        (train, "trainer: {callbacks+: [{class_path: WatchPages, init_args: {cout: 1}}]}",
         "trainer.callbacks+[0].init_args.cout: unknown; did you mean count? WatchPages takes cou"),
    ],
)  # fmt: skip
def test_settings_in_a_file_are_named_with_it(command, content, text, tmp_path, capsys):
    mine = tmp_path / "mine.yaml"
    mine.write_text(content)
    assert refused(command, capsys, "--config", str(mine)).startswith(f"{mine}: {text}")


@pytest.mark.parametrize(
    "command,config,of",
    [
        (evaluate, "tiny", "train"),
        (train, "eval/all", "eval"),
        (train, "eval/eviction", "eval eviction"),
        (train, "eval/robustness", "robustness"),
        (evaluate, "eval/robustness", "robustness"),
        (evaluate, "eval/eviction", "eval eviction"),
        (robustness, "eval/quick", "eval"),
    ],
)
def test_a_config_of_another_command_is_called_so(command, config, of, capsys):
    text = refused(command, capsys, "--config", config)
    assert text.startswith("--config: ") and f"{config}.yaml is for `asymvlm {of}`, as it" in text


def test_what_a_config_leaves_open_is_asked_for(capsys):
    text = refused(train, capsys, "--config", "any")
    assert text == "model.teacher: a config leaves it open (???); give --model.teacher VALUE"
    check_filled({"model": {"class_path": "A", "init_args": {"teacher": "x"}}, "data": None})


def test_what_is_required_is_asked_for(tmp_path, capsys):
    (tmp_path / "mine.yaml").write_text("model: {class_path: LoraModule}")
    text = refused(train, capsys, "--config", str(tmp_path / "mine.yaml"))
    assert text == "model.teacher: LoraModule needs it; give --model.teacher VALUE"


def keys_of(settings, before=()):
    """Where all keys of a configuration are, but those that people name themselves."""
    for name, value in settings.items():
        if before[-1:] not in (("methods",), ("objectives",), ("columns",)):
            yield (*before, name)
        if isinstance(value, dict):
            yield from keys_of(value, (*before, name))


def renamed(settings, place):
    """The configuration with one key misspelt, or one class's name."""
    first, *rest = place
    if rest:
        return settings | {first: renamed(settings[first], rest)}
    if first == "class_path":
        return settings | {first: f"{settings[first]}x"}
    return {f"{name}x" if name == first else name: value for name, value in settings.items()}


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("tiny-stage2", "stage2/lora")]


@pytest.mark.parametrize("config", ["tiny", "eval/all", "eval/tiny", *SLOW])
def test_every_misspelt_key_of_a_config_is_found(config, tmp_path):
    methods()
    training.import_rooms()
    evaluation = Root("eval", parameters(Evaluation))
    root = evaluation if config.startswith("eval/") else training.root()
    settings = yaml.safe_load((ROOT / f"configs/{config}.yaml").read_text())
    mine = tmp_path / "mine.yaml"
    places = list(keys_of(settings))
    assert len(places) >= 15
    for place in places:
        mine.write_text(yaml.safe_dump(renamed(settings, place), sort_keys=False))
        text = explain(root, ["--config", str(mine)])
        last = "class_path" if place[-1] == "class_path" else f"{place[-1]}x"
        assert text is not None and ".".join((*place[:-1], last)) in text, (place, text)
    mine.write_text(yaml.safe_dump(settings))
    assert explain(root, ["--config", str(mine)]) is None


def sorted_pages(pages: int = 1) -> None:
    """Sort pages."""


def test_a_parser_s_own_words_are_shown_where_nothing_is_found(monkeypatch, capsys):
    monkeypatch.setattr("asymvlm.cli.mistakes.explain", lambda root, arguments: 1 / 0)
    command = functools.partial(call_from_flags, sorted_pages, command="sort")
    assert run_command(command, ["--pages", "x"]) == USAGE
    assert "pages" in capsys.readouterr().err
