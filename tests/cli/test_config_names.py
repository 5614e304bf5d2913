"""Which configuration a name stands for."""

from __future__ import annotations

import pytest
from support import ROOT

from asymvlm.cli.command import USAGE
from asymvlm.cli.configs import find_config, with_configs
from asymvlm.evaluation.main import main as evaluate
from asymvlm.training.main import main as train

FILES = sorted((ROOT / "configs").rglob("*.yaml"))
NAMES = [str(file.relative_to(ROOT / "configs"))[: -len(".yaml")] for file in FILES]


@pytest.mark.parametrize("name", NAMES)
def test_every_packaged_config_is_found_by_its_name(name, tmp_path, monkeypatch):
    """Also where it has dots in it, and as the path that it has in the repository."""
    monkeypatch.chdir(tmp_path)
    whole = ROOT / "configs" / f"{name}.yaml"
    for given in (name, f"{name}.yaml", f"configs/{name}", f"configs/{name}.yaml"):
        assert find_config(given).samefile(whole)


@pytest.mark.parametrize(
    "name,says",
    [
        ("timy", "did you mean tiny?"),
        ("tiny.foo", "did you mean tiny?"),
        ("tiny.yml", "did you mean tiny?"),
        ("qwen2.5-vl-7b", "did you mean models/qwen2.5-vl-7b or stage2/qwen2.5-vl-7b?"),
        ("nothing-of-ours", "give a YAML file, or one of any, base, receipts, "),
        ("configs", "give a YAML file, or one of any, base, receipts, "),
        ("/", "give a YAML file, or one of "),
        ("", "--config: empty; give a YAML file, or one of "),
        ("x" * 5000, "give a YAML file, or one of "),
        ("x\0", "give a YAML file, or one of "),
    ],
)
def test_another_name_is_refused_with_those_like_it(name, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError) as refused:
        find_config(name)
    text = str(refused.value)
    assert text.startswith("--config: ") and says in text
    assert len(text.replace(name, "") if name else text) < 300 and "\n" not in text


def test_a_name_that_is_nearly_right_is_offered(capsys):
    assert train(["--config", "timy"]) == USAGE
    assert capsys.readouterr().err.endswith("did you mean tiny?\n")


@pytest.mark.parametrize("content", ["", "# pages: 3\n", "{}"])
@pytest.mark.parametrize("command", [train, evaluate])
def test_a_config_without_settings_changes_nothing(command, content, tmp_path, capsys):
    mine = tmp_path / "mine.yaml"
    mine.write_text(content)
    default = ["--config", "tiny" if command is train else "eval/tiny"]
    printed = []
    for flags in (default, [*default, "--config", str(mine)]):
        assert command([*flags, "--print_config"]) == 0, capsys.readouterr().err
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]


def test_the_default_is_taken_where_no_config_is_named(tmp_path):
    (tmp_path / "empty.yaml").write_text("")
    tiny = ["--config", str(find_config("tiny"))]
    assert with_configs(["--a", "1"], "tiny") == [*tiny, "--a", "1"]
    assert with_configs(["--config", str(tmp_path / "empty.yaml")], "tiny") == []
    assert with_configs(["--config=tiny"], "any") == with_configs(["-c", "tiny"], "any") == tiny
