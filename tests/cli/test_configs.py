"""Every published config parses, and what `--print_config` writes parses to the same."""

from __future__ import annotations

import re

import pytest
import yaml
from support import ROOT

import asymvlm
from asymvlm.cli.command import parameters_of, run_command
from asymvlm.evaluation.main import main as evaluate
from asymvlm.evaluation.robustness.robustness import RobustnessEvaluation
from asymvlm.methods import methods
from asymvlm.training.main import main as train

TRAIN = [
    path
    for folder in ("", "teacher")
    for path in sorted((ROOT / "configs" / folder).glob("*.yaml"))
]
OVERLAYS = sorted((ROOT / "configs/ablations").glob("*.yaml"))
STAGE2 = sorted(set((ROOT / "configs/stage2").glob("*.yaml")) - {ROOT / "configs/stage2/lora.yaml"})
MODELS = sorted((ROOT / "configs/models").glob("*.yaml"))
ROBUSTNESS, EVICTION, CALIBRATION = (
    ROOT / f"configs/eval/{name}.yaml" for name in ("robustness", "eviction", "calibrate-eviction")
)  # of commands of their own
EVAL = sorted(set((ROOT / "configs/eval").glob("*.yaml")) - {ROBUSTNESS, EVICTION, CALIBRATION})


@pytest.fixture
def printed(capsys, monkeypatch):
    """What `--print_config` writes for some config files."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("sys.argv", ["train.py"])

    def ask(command, *configs):
        flags = [part for config in configs for part in ("--config", str(config))]
        code = command([*flags, "--print_config"])
        out, err = capsys.readouterr()
        assert code == 0, err
        return out

    return ask


def holds(merged, wanted):
    """Whether all that an overlay says is so."""
    if isinstance(wanted, dict):
        merged = merged if wanted.keys() <= merged.keys() else merged["init_args"]
        return all(holds(merged[key], value) for key, value in wanted.items())
    if isinstance(wanted, str):  # classes are named in short
        return merged == wanted or merged.endswith(f".{wanted}")
    return merged == wanted


@pytest.mark.parametrize("config", TRAIN, ids=lambda path: path.stem)
def test_train_configs_round_trip(printed, config, tmp_path):
    first = printed(train, config)
    (tmp_path / "again.yaml").write_text(first)
    assert yaml.safe_load(printed(train, tmp_path / "again.yaml")) == yaml.safe_load(first)


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.stem)
def test_overlays_compose(printed, overlay):
    merged = yaml.safe_load(printed(train, ROOT / "configs/tiny.yaml", overlay))
    wanted = yaml.safe_load(overlay.read_text())
    assert merged["trainer"]["default_root_dir"] == wanted["trainer"]["default_root_dir"]
    assert merged["data"]["init_args"]["train_pages"] == 1500


@pytest.mark.parametrize("overlay", STAGE2, ids=lambda path: path.stem)
def test_stage_two_overlays_compose(printed, overlay, tmp_path):
    first = printed(train, ROOT / "configs/tiny-stage2.yaml", overlay)
    merged, wanted = yaml.safe_load(first), yaml.safe_load(overlay.read_text())
    (tmp_path / "again.yaml").write_text(first)
    assert yaml.safe_load(printed(train, tmp_path / "again.yaml")) == merged
    assert holds(merged, wanted)


def comment_of(config):
    """The text of a config's comment, as one line."""
    return config.read_text().replace("\n# ", " ")


@pytest.mark.parametrize("overlay", MODELS, ids=lambda path: path.stem)
def test_models_compose_and_say_what_they_need(printed, overlay, tmp_path):
    first = printed(train, ROOT / "configs/any.yaml", overlay)
    merged = yaml.safe_load(first)
    (tmp_path / "again.yaml").write_text(first)
    assert yaml.safe_load(printed(train, tmp_path / "again.yaml")) == merged
    wanted = yaml.safe_load(overlay.read_text())
    assert merged["model"]["init_args"]["teacher"] == wanted["model"]["init_args"]["teacher"]
    assert merged["data"]["init_args"]["cache"] is False
    comment = comment_of(overlay)
    weights, made = re.search(r"([\d.]+) B parameters x 2 bytes = ([\d.]+) GB", comment).groups()
    assert float(made) == pytest.approx(2 * float(weights), abs=0.06)
    samples, tokens, width, inner, said = re.search(
        r"(\d+) samples x ([\d,]+) tokens x \(4 x ([\d,]+) \+ 3 x ([\d,]+)\) x 2 bytes = ([\d.]+) "
        r"GB",
        comment,
    ).groups()
    samples, tokens, width, inner = (
        int(number.replace(",", "")) for number in (samples, tokens, width, inner)
    )
    assert samples == wanted["data"]["init_args"]["batch_size"]
    assert float(said) == pytest.approx(
        samples * tokens * (4 * width + 3 * inner) * 2 / 1e9, abs=0.06
    )


def test_adapters_alone_are_a_module_of_their_own(printed):
    overlay = ROOT / "configs/stage2/lora.yaml"
    merged = yaml.safe_load(printed(train, overlay))
    assert merged["model"]["class_path"].endswith("LoraModule")
    assert set(merged["model"]["init_args"]["objectives"]) == {"divergence", "cross_entropy"}


def test_stage_two_of_a_large_model_adds_up():
    text = comment_of(ROOT / "configs/stage2/qwen2.5-vl-7b.yaml")
    number = r"([\d.,]+)"

    def said(pattern):
        (found,) = re.findall(pattern.replace("N", number), text)
        return [float(one.replace(",", "")) for one in found]

    weights, made = said(r"N B parameters x 2 bytes = N GB")
    assert made == pytest.approx(2 * weights, abs=0.06)
    layers, samples, positions, width, made = said(
        r"N layers x N samples x N positions x N x 2 bytes = N GB"
    )
    assert made == pytest.approx(layers * samples * positions * width * 2 / 1e9, abs=0.06)
    assert (
        samples
        == yaml.safe_load((ROOT / "configs/stage2/qwen2.5-vl-7b.yaml").read_text())["data"][
            "init_args"
        ]["batch_size"]
    )
    samples, tokens, width, inner, made = said(
        r"N samples x N tokens x \(4 x N \+ 3 x N\) x 2 bytes = N GB"
    )
    assert made == pytest.approx(samples * tokens * (4 * width + 3 * inner) * 2 / 1e9, abs=0.06)
    times, size, tokens, made = said(r"N x 2 x N B x N = N TFLOP")
    assert made == pytest.approx(times * 2 * size * tokens / 1e3, rel=0.01)
    share, speed, seconds = said(r"At N % of N TFLOP/s \(H200, bf16\) N s")
    assert seconds == pytest.approx(made / (share / 100 * speed), abs=0.01)
    questions, hours = said(r"N samples are N GPU-hours")
    assert hours == pytest.approx(questions * made / (share / 100 * speed) / 3600, abs=0.06)


@pytest.mark.parametrize("config", EVAL, ids=lambda path: path.stem)
def test_eval_configs_round_trip(printed, config, tmp_path):
    first = printed(evaluate, config)
    (tmp_path / "again.yaml").write_text(first)
    assert yaml.safe_load(printed(evaluate, tmp_path / "again.yaml")) == yaml.safe_load(first)


def test_robustness_config_parses(printed):
    def command(flags):
        return run_command(
            lambda given: parameters_of(RobustnessEvaluation, given, "robustness"), flags
        )

    methods()
    names = {"atp", "vlm_pruner", "random"}
    assert set(yaml.safe_load(printed(command, ROBUSTNESS))["methods"]) == names


def test_eviction_config_parses(printed):
    def ask(config):
        return yaml.safe_load(printed(lambda flags: evaluate(["eviction", *flags]), config))

    assert set(ask(EVICTION)["policies"]) == set(asymvlm.evictors())
    assert ask(CALIBRATION)["split"] == "val"


def test_every_method_and_policy_is_in_the_docs():
    parts = (ROOT / "docs/methods.md").read_text().split("\n## KV-cache eviction\n")
    for part, known in zip(parts, (asymvlm.methods(), asymvlm.evictors()), strict=True):
        first = [line.split("|")[1] for line in part.splitlines() if line.startswith("| `")]
        assert {name for cell in first for name in re.findall(r"`(\w+)`", cell)} == set(known)
